"""Alarms: once each, with the cause, and only when something is dead."""

import pytest
import torch

from castkd.errors import ConfigError, TrainingError
from castkd.hooks import Watchdog
from castkd.hooks.alarms import Alarms
from castkd.objectives import Objective, PseudoLabel, Supervised
from castkd.teachers import EMATeacher, Teacher
from tests.hooks.toy import At, KilledError, SquareFinder, kill, log_of, toy_distiller, toy_runner


class Fixed(Objective):
    """Returns what it is told to."""

    def __init__(self, losses, weight=1.0):
        super().__init__(weight)
        self.losses = losses

    def passes(self):
        return []

    def forward(self, step):
        return {name: torch.tensor(value) for name, value in self.losses.items()}


def objectives(**extra):
    return {'sup': Supervised(), **extra}


def train(tmp_path, distiller, steps=5, window=2, **options):
    runner = toy_runner(tmp_path, distiller, [Watchdog(window=window)], max_iters=steps, **options)
    warnings = log_of(runner)
    runner.train()
    return [text for text in warnings if 'first' in text]


def test_healthy_run_says_nothing(tmp_path):
    assert train(tmp_path, toy_distiller()) == []


def test_dead_term_is_named_once_with_its_cause(tmp_path):
    cast = Fixed({'loss_pixel': 0.0, 'loss_other': 1.0, 'accuracy': 0.0})
    warnings = train(tmp_path, toy_distiller(objectives=objectives(cast=cast)))
    assert warnings == [
        'cast.loss_pixel was 0 in each of the first 2 steps: no valid anchors? check the valid mask, instance ids '
        'and cue'
    ]


def test_objective_without_a_loss_is_named(tmp_path):
    (warning,) = train(tmp_path, toy_distiller(objectives=objectives(empty=Fixed({'number': 1.0}))))
    assert "objective 'empty' has a weight above 0 but returned no loss" in warning


def test_inactive_objective_is_watched_from_its_first_active_step(tmp_path):
    late = Fixed({'loss_pixel': 0.0}, weight={'type': 'Window', 'value': 1.0, 'begin': 3})
    assert train(tmp_path, toy_distiller(objectives=objectives(late=late)), steps=4) == []
    late = Fixed({'loss_pixel': 0.0}, weight={'type': 'Window', 'value': 1.0, 'begin': 3})
    (warning,) = train(tmp_path, toy_distiller(objectives=objectives(late=late)), steps=5)
    assert warning.startswith('late.loss_pixel was 0')


def test_one_step_above_zero_is_enough():
    alarms = Alarms(window=3)
    values = [0.0, -0.5, 0.0]
    assert [alarms.objective('a', {'a.loss': value}) for value in values] == [[], [], []]


def test_terms_of_one_cause_share_a_line():
    alarms = Alarms(window=1)
    names = ['loss_mask', 'loss_dice', 'd0.loss_mask', 'd0.loss_dice']
    lines = alarms.objective('sup', {f'sup.{name}': 0.0 for name in [*names, 'loss_x']})
    assert [line.split(':')[0] for line in lines] == [
        'sup.loss_mask, sup.loss_dice, sup.d0.loss_mask and 1 more were 0 in each of the first 1 steps',
        'sup.loss_x was 0 in each of the first 1 steps',
    ]


def test_rejected_pseudo_labels_tell_the_best_score(tmp_path):
    warnings = train(tmp_path, toy_distiller(score_thr=0.95))
    assert sum('pseudo-labels were empty' in text for text in warnings) == 1
    assert any('none of 4 predictions' in text and '0.900' in text for text in warnings)
    # The student's loss on those labels is dead too, and named.
    assert any('unsup.loss_cls was 0' in text for text in warnings)


def test_teacher_that_predicts_nothing_is_told_apart(tmp_path):
    blind = Teacher(SquareFinder(threshold=100.0))
    warnings = train(tmp_path, toy_distiller(teacher=blind))
    assert any('the teacher predicted nothing' in text for text in warnings)


def test_short_run_is_judged_at_its_end(tmp_path):
    cast = Fixed({'loss_pixel': 0.0})
    warnings = train(tmp_path, toy_distiller(objectives=objectives(cast=cast)), steps=3, window=50)
    assert len(warnings) == 1
    assert 'first 3 steps' in warnings[0]


def test_counters_survive_a_resume(tmp_path):
    def distiller():
        return toy_distiller(objectives=objectives(cast=Fixed({'loss_pixel': 0.0})))

    hooks = [Watchdog(window=3), At(3, kill)]
    runner = toy_runner(tmp_path, distiller(), hooks, max_iters=5)
    with pytest.raises(KilledError):
        runner.train()
    # Iteration 2 is in the checkpoint, so one more step fills the window, and only once.
    warnings = train(tmp_path, distiller(), steps=3, window=3, resume=True)
    assert len(warnings) == 1
    assert 'first 3 steps' in warnings[0]
    assert train(tmp_path, distiller(), steps=5, window=3, resume=True) == []


def spoil(runner):
    runner.model.teachers['expert'].model.norm.running_mean.add_(1.0)


@pytest.mark.parametrize('interval', [2, 100])
def test_changed_teacher_stops_training(tmp_path, interval):
    hooks = [At(1, spoil), Watchdog(teacher_interval=interval)]
    runner = toy_runner(tmp_path, toy_distiller(), hooks, max_iters=4)
    with pytest.raises(TrainingError, match="teacher 'expert' is frozen but") as caught:
        runner.train()
    assert f'by iteration {min(interval, 4)}:' in str(caught.value)


def test_moving_teacher_may_change(tmp_path):
    student = SquareFinder()
    distiller = toy_distiller(teacher=EMATeacher(0.5, student=student))
    hooks = [At(1, spoil), Watchdog(teacher_interval=1)]
    toy_runner(tmp_path, distiller, hooks).train()


def test_pseudo_labels_in_files_need_no_teacher(tmp_path):
    unsup = PseudoLabel('sup', drop_empty=False)
    assert train(tmp_path, toy_distiller(objectives={'unsup': unsup})) == []


@pytest.mark.parametrize('options', [{'window': 0}, {'teacher_interval': 1.5}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Watchdog(**options)
