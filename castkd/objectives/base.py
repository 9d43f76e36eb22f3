"""What every objective is: one method's part of a training step."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from castkd.schedules import build_schedule
from castkd.structures import Pass, Step


class Objective(nn.Module, ABC):
    """Base of all objectives.

    An objective names the passes it needs and turns their results into named losses. Modules it owns (projectors,
    connectors) train with the student and stay out of the exported model.

    Args:
        weight: Factor of all its losses: a number, or a schedule over training steps (see
            :func:`castkd.schedules.build_schedule`). At weight 0 nothing of the objective runs.
    """

    def __init__(self, weight: float | dict = 1.0) -> None:
        super().__init__()
        self.weight = build_schedule(weight)

    @abstractmethod
    def passes(self) -> list[Pass]:
        """Return the runs this objective reads from."""

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return named losses of this step, unweighted."""
