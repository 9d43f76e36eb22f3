"""A network's own loss on labelled images."""

from __future__ import annotations

from torch import Tensor

from castkd.objectives.base import Objective
from castkd.registry import MODELS
from castkd.structures import STUDENT, Pass, Step


@MODELS.register_module()
class Supervised(Objective):
    """The own loss of the student, or of a peer, on the labels of a view.

    Args:
        view: Name of the labelled view.
        network: ``student`` or the name of a peer.
        weight: See :class:`~castkd.objectives.base.Objective`.
    """

    def __init__(
        self, view: str = 'sup', network: str = STUDENT, weight: float | dict = 1.0
    ) -> None:
        super().__init__(weight)
        self.view = view
        self.network = network

    def passes(self) -> list[Pass]:
        """Return the network's loss run on the labelled view."""
        return [Pass(self.network, self.view, 'loss')]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the model's losses as they are."""
        return step[self.network, self.view].losses
