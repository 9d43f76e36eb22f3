"""The student's own loss on labelled images."""

from __future__ import annotations

from torch import Tensor

from castkd.objectives.base import Objective
from castkd.registry import MODELS
from castkd.structures import STUDENT, Pass, Step


@MODELS.register_module()
class Supervised(Objective):
    """The student's own loss on the labels of a view.

    Args:
        view: Name of the labelled view.
        weight: See :class:`~castkd.objectives.base.Objective`.
    """

    def __init__(self, view: str = 'sup', weight: float | dict = 1.0) -> None:
        super().__init__(weight)
        self.view = view

    def passes(self) -> list[Pass]:
        """Return the student's loss run on the labelled view."""
        return [Pass(STUDENT, self.view, 'loss')]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the model's losses as they are."""
        return step[STUDENT, self.view].losses
