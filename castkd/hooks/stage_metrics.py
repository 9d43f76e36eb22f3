"""Metrics of the last validation, for whoever started the run."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING

from mmengine.hooks import Hook

from castkd.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.runner import Runner


@HOOKS.register_module()
class StageMetrics(Hook):
    """Remember what the last validation measured.

    Acts after each validation; reads its metrics; changes nothing; stores nothing in a checkpoint, so after a resume
    ``metrics`` is empty until the next validation.

    Attributes:
        metrics: Numbers of the last validation as floats; other values (texts, tables) are left out.
        iteration: Training iterations that were finished then.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.iteration = 0
        self._finished = 0

    def before_train(self, runner: Runner) -> None:
        """Start to count, on a resume where the checkpoint stopped."""
        self._finished = runner.iter

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Count a finished iteration."""
        self._finished = batch_idx + 1

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Keep the numbers."""
        self.iteration = self._finished
        self.metrics = {
            name: float(value)
            for name, value in (metrics or {}).items()
            if isinstance(value, numbers.Real)
        }
