"""What every objective is: one method's part of a training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from castkd.schedules import build_schedule
from castkd.structures import Marks, Pass, Step
from castkd.teachers import Teacher


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

    def bind(self, trained: Mapping[str, nn.Module], teachers: Mapping[str, Teacher]) -> None:
        """Look at the networks once the distiller has them, before the first call of :meth:`passes`.

        An objective that needs more of a network than its passes give (the anchors of a head, its assignment of labels)
        checks here whether it has it, and keeps it where it is no part of itself: in a plain object or a dict, never as
        an attribute of its own, which would put the network into its parameters and the checkpoint twice.

        Args:
            trained: The student as ``student``, and the peers by name.
            teachers: The teachers by name; their weights are not loaded yet.

        Raises:
            ConfigError: When the networks are not what the objective needs.
        """

    @abstractmethod
    def passes(self) -> list[Pass]:
        """Return the runs this objective reads from. A view of the batch that no pass asks for may be missing."""

    def marks(self) -> list[Marks]:
        """Return the places that the objective chose in the last step in which it had a part, for pictures."""
        return []

    @abstractmethod
    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return named losses of this step, unweighted."""
