"""Teachers are looked at before the first step."""

import pytest
from mmdet.structures.mask import BitmapMasks

from castkd.errors import ConfigError, TrainingError
from castkd.hooks import PseudoLabelStatistics, TeacherPreflight
from castkd.teachers import EMATeacher, Teacher
from tests.hooks.toy import (
    At,
    KilledError,
    SquareFinder,
    Squares,
    kill,
    log_of,
    toy_distiller,
    toy_runner,
)


def check(tmp_path, distiller=None, val=None, **options):
    runner = toy_runner(
        tmp_path, distiller or toy_distiller(), [TeacherPreflight(**options)], max_iters=1, val=val
    )
    warnings, lines = log_of(runner), log_of(runner, 'INFO')
    runner.train()
    return warnings, [line for line in lines if 'mask AP' in line]


@pytest.mark.parametrize('content', ['masks', 'late masks'])
def test_score_is_logged_whatever_size_the_masks_have(tmp_path, content):
    _, lines = check(tmp_path, val=Squares(False, content), num_images=3, floor=0.99)
    assert lines == ["teacher 'expert' has mask AP 1.000 on the first 3 validation images"]


def test_teacher_below_its_floor_is_refused(tmp_path):
    # It sees everything as one object: the right square is a fifth of it.
    blurred = toy_distiller(teacher=Teacher(SquareFinder(threshold=-100.0)))
    with pytest.raises(TrainingError, match=r'mask AP 0\.000 .* below its floor of 0\.400; check'):
        check(tmp_path, blurred, floor={'expert': 0.4})


def test_without_a_floor_the_score_is_only_told(tmp_path):
    blind = toy_distiller(teacher=Teacher(SquareFinder(threshold=100.0)))
    _, (line,) = check(tmp_path, blind)
    assert 'mask AP 0.000' in line


def test_one_number_is_the_floor_of_frozen_teachers(tmp_path):
    student = SquareFinder(threshold=100.0)
    moving = toy_distiller(teacher=EMATeacher(0.5, student=student))
    check(tmp_path, moving, floor=0.4)
    with pytest.raises(TrainingError, match='floor of'):
        check(tmp_path, moving, floor={'expert': 0.4})


def unfreeze(network):
    network.conv.requires_grad_(True)


def wake(network):
    network.norm.train()


@pytest.mark.parametrize(
    ('change', 'text'),
    [(unfreeze, r'not frozen: conv\.weight and 1 more'), (wake, 'not in eval mode .* norm')],
)
def test_teacher_that_could_change_is_refused(tmp_path, change, text):
    distiller = toy_distiller()
    change(distiller.teachers['expert'].model)
    # Loading freezes; what happens after it is what the hook is for.
    distiller.teachers['expert'].freeze = lambda: None
    with pytest.raises(TrainingError, match=f"teacher 'expert' is {text}"):
        check(tmp_path, distiller)


@pytest.mark.parametrize(
    ('val', 'text'),
    [
        (False, 'val_dataloader: there is none'),
        (Squares(False, 'boxes'), 'loads no masks'),
        (Squares(False, 'nothing'), 'have no object'),
    ],
)
def test_without_labels_a_floor_is_refused_and_no_floor_is_told(tmp_path, val, text):
    warnings, lines = check(tmp_path, val=val)
    assert any('not scored' in warning and text in warning for warning in warnings)
    assert lines == []
    with pytest.raises(ConfigError, match=f'floor is set but .*{text}'):
        check(tmp_path, val=val, floor=0.1)


def test_unknown_teacher_is_refused_with_near_names(tmp_path):
    with pytest.raises(ConfigError, match="no teacher 'expret'; did you mean 'expert'"):
        check(tmp_path, floor={'expret': 0.1})


def test_resumed_run_is_not_scored_again(tmp_path):
    runner = toy_runner(tmp_path, toy_distiller(), [At(2, kill)])
    with pytest.raises(KilledError):
        runner.train()
    blind = toy_distiller(teacher=Teacher(SquareFinder(threshold=100.0)))
    runner = toy_runner(tmp_path, blind, [TeacherPreflight(floor=0.9)], resume=True)
    runner.train()
    assert runner.iter == 3


@pytest.mark.parametrize(
    'options',
    [{'num_images': -1}, {'floor': 1.5}, {'floor': {'a': 'b'}}, {'floor': 0.0, 'num_images': 0}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match='TeacherPreflight'):
        TeacherPreflight(**options)


class BoxFinder(SquareFinder):
    """Finds the same squares, by their boxes alone."""

    def predict(self, inputs, samples, rescale=False):
        for sample in super().predict(inputs, samples, rescale):
            found = sample.pred_instances
            boxes = BitmapMasks(found.masks.numpy().astype('uint8'), *found.masks.shape[1:])
            found.bboxes = boxes.get_bboxes('hbox').tensor
            del found.masks
        return samples


@pytest.mark.parametrize('content', ['masks', 'late masks'])
def test_teacher_without_masks_is_scored_by_its_boxes(tmp_path, content):
    distiller = toy_distiller(teacher=Teacher(BoxFinder()))
    runner = toy_runner(
        tmp_path,
        distiller,
        [TeacherPreflight(num_images=3, floor=0.99), PseudoLabelStatistics(num_images=3)],
        max_iters=1,
        val=Squares(False, content),
    )
    lines = log_of(runner, 'INFO')
    runner.train()
    assert "teacher 'expert' has box AP 1.000 on the first 3 validation images" in lines
    assert (
        "pseudo-labels of 'expert' on validation images: 3 for 3 objects, precision 1.000, recall 1.000"
        in lines
    )
