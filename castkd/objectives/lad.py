"""LAD: a label-assisted network is run twice per step, and its two paths shall agree.

Qiu et al., "Make a Strong Teacher with Label Assistance: A Novel Knowledge Distillation Approach for Semantic
Segmentation", ECCV 2024 (arXiv 2407.13254).
"""

from __future__ import annotations

from torch import Tensor, nn

from castkd.objectives.base import Objective
from castkd.registry import MODELS, build_model
from castkd.structures import STUDENT, Pass, Step


@MODELS.register_module()
class DualPath(Objective):
    """Let two runs of the network that is trained agree, each on labels that were noised anew.

    The supervised losses of the two runs are two ``castkd.Supervised``, on the same two views. What is trained here is
    the teacher of a later stage, a :class:`castkd.teachers.LabelAssistedSegmentor`; its noise is what makes the runs
    differ. The runs come one after the other, so that batch norm sees two batches.

    Args:
        views: The view and its repetition.
        tap: The logits before they are resized (B, C, h, w).
        loss: Config of the loss of two maps; None is the paper's :class:`~castkd.losses.DualPathConsistency`.
        weight: See :class:`~castkd.objectives.base.Objective`.
    """

    def __init__(
        self,
        views: tuple[str, str] = ('sup', 'sup#2'),
        tap: str = 'decode_head.conv_seg',
        loss: dict | nn.Module | None = None,
        weight: float | dict = 5.0,
    ) -> None:
        super().__init__(weight)
        self.views = tuple(views)
        self.tap = tap
        self.loss = build_model(loss or {'type': 'castkd.DualPathConsistency'})

    def passes(self) -> list[Pass]:
        """Return the two runs."""
        return [Pass(STUDENT, view, 'forward', (self.tap,)) for view in self.views]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_consistency``."""
        first, second = (step[STUDENT, view].taps[self.tap] for view in self.views)
        return {'loss_consistency': self.loss(first, second)}
