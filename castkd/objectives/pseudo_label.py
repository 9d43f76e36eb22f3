"""The student's own loss on pseudo-labels."""

from __future__ import annotations

from torch import Tensor

from castkd.objectives.base import Objective
from castkd.registry import MODELS
from castkd.structures import STUDENT, Pass, PseudoTargets, Step


@MODELS.register_module()
class PseudoLabel(Objective):
    """The student's own loss on pseudo-labels, read from a file or made in the step.

    Args:
        view: View that the student learns on.
        teacher: Name of the teacher that labels in the step; None when the dataset already carries pseudo-labels.
        teacher_view: View that the teacher sees; its pseudo-labels are carried to ``view``.
        drop_empty: Whether images without any pseudo-label give no loss. An image on which the teacher found nothing
            would otherwise teach that nothing is there.
        weight: See :class:`~castkd.objectives.base.Objective`.
    """

    def __init__(
        self,
        view: str = 'unsup_student',
        teacher: str | None = None,
        teacher_view: str = 'unsup_teacher',
        drop_empty: bool = True,
        weight: float | dict = 1.0,
    ) -> None:
        super().__init__(weight)
        self.view = view
        self.targets = None if teacher is None else PseudoTargets(teacher, teacher_view)
        self.drop_empty = drop_empty

    def passes(self) -> list[Pass]:
        """Return the student's loss run on the view."""
        return [Pass(STUDENT, self.view, 'loss', targets=self.targets, drop_empty=self.drop_empty)]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the model's losses as they are."""
        return step[STUDENT, self.view].losses
