"""Alarms for a distillation that runs but does not teach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook

from castkd.checks import check_number
from castkd.errors import TrainingError
from castkd.hooks.alarms import Alarms
from castkd.hooks.common import distiller_of, is_resumed
from castkd.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.runner import Runner

STATE_KEY = 'castkd_watchdog'


@HOOKS.register_module()
class Watchdog(Hook):
    """Warn, once and naming the cause to look at, when a part of the distillation is dead.

    Acts after each training step. Over the first ``window`` steps in which an objective is active it reads the
    distiller's losses and pseudo-label statistics, then warns of loss terms that were 0 in every step, of objectives
    without a loss, and of pseudo-labels that were always empty. Every ``teacher_interval`` steps and at the end it
    compares each frozen teacher with what it was before the first step, and stops training when it changed. Changes
    nothing. Its counters are in the checkpoint (message hub, ``castkd_watchdog``): a resumed run goes on counting and
    says nothing twice.

    Args:
        window: Steps to watch, at least 1; a shorter run is judged at its end.
        teacher_interval: Steps between two looks at the frozen teachers, at least 1.
    """

    def __init__(self, window: int = 50, teacher_interval: int = 1000) -> None:
        check_number('Watchdog', 'window', window, low=1, integer=True)
        check_number('Watchdog', 'teacher_interval', teacher_interval, low=1, integer=True)
        self.alarms = Alarms(window)
        self.teacher_interval = teacher_interval
        self._fingerprints: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        """Take up the counters of a resumed run; remember the frozen teachers."""
        self.alarms.window = min(self.alarms.window, runner.max_iters)
        if is_resumed(runner):
            self.alarms.state = runner.message_hub.get_info(STATE_KEY, self.alarms.state)
        runner.message_hub.update_info(STATE_KEY, self.alarms.state)
        self._fingerprints = _fingerprints(distiller_of(runner))

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Count the step.

        Raises:
            TrainingError: When a frozen teacher changed.
        """
        distiller = distiller_of(runner)
        step = distiller.last_step
        messages = self.alarms.pseudo_labels(step.statistics)
        for name, objective in distiller.objectives.items():
            if objective.weight(step.index):
                messages += self.alarms.objective(name, distiller.last_losses)
        for message in messages:
            runner.logger.warning(message)
        if self.every_n_train_iters(runner, self.teacher_interval):
            self._check_teachers(runner, batch_idx + 1)

    def after_train(self, runner: Runner) -> None:
        """Look at the teachers a last time.

        Raises:
            TrainingError: When a frozen teacher changed.
        """
        self._check_teachers(runner, runner.iter)

    def _check_teachers(self, runner: Runner, iteration: int) -> None:
        for name, fingerprint in _fingerprints(distiller_of(runner)).items():
            if fingerprint != self._fingerprints[name]:
                raise TrainingError(
                    f'teacher {name!r} is frozen but its weights or buffers changed by iteration {iteration}: '
                    'look for a hook, an optimiser or a batch norm in train mode that writes to it'
                )


def _fingerprints(distiller: Any) -> dict[str, str]:  # noqa: ANN401
    teachers = distiller.teachers.items()
    return {name: teacher.fingerprint() for name, teacher in teachers if not teacher.moves}
