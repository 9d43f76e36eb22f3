"""Cross pseudo supervision: two networks label mixed images for each other.

Chen et al., "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", CVPR 2021 (arXiv 2106.01226), with
CutMix.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from castkd.losses import pixel_cross_entropy
from castkd.objectives.base import Objective
from castkd.objectives.pixels import LogitMaps, agreement, check_same_classes
from castkd.registry import MODELS
from castkd.structures import STUDENT, Pass, Step
from castkd.teachers import Teacher


@MODELS.register_module()
class CrossPseudoSupervision(Objective):
    """The student learns from the hard labels of a peer on mixed images, and the peer from the student's.

    ``L = CE(z_1(x_m), p_2) + CE(z_2(x_m), p_1)``, where p_b are the labels of network b on the images before mixing,
    made without gradient and mixed like the images. Logits are resized to the images as the network's decode head
    resizes them. All pixels count, whatever the confidence; padding too, unless it is masked. The student is handed
    over, the peer is not. Both need a :class:`~castkd.objectives.supervised.Supervised` objective of their own.

    Args:
        peer: Name of the network that is trained beside the student: the same architecture from other first weights.
        unlabeled: View of the images before mixing.
        mixed: Derived view of the mixed images, see :class:`~castkd.distiller.cutmix.CutMix`.
        logits: Tap of the logits of both networks, (B, C, h, w).
        mask_padding: Whether the padding that makes images of a batch equal in size is left out.
        weight: See :class:`~castkd.objectives.base.Objective`.

    Raises:
        ConfigError: When (in a step) the peer has other classes.
    """

    def __init__(
        self,
        peer: str = 'second',
        unlabeled: str = 'unsup_teacher',
        mixed: str = 'unsup_mixed',
        logits: str = 'decode_head',
        mask_padding: bool = False,
        weight: float | dict = 1.0,
    ) -> None:
        super().__init__(weight)
        self.networks = (STUDENT, peer)
        self.unlabeled = unlabeled
        self.mixed = mixed
        self.logits = LogitMaps(logits)
        self.mask_padding = mask_padding

    def bind(self, trained: Mapping[str, nn.Module], teachers: Mapping[str, Teacher]) -> None:
        """Keep how each network resizes its logits."""
        self.logits.bind(trained, teachers)

    def passes(self) -> list[Pass]:
        """Return runs of both networks on the images without gradient, and on the mixed ones with it."""
        taps = (self.logits.tap,)
        return [
            Pass(network, view, 'forward', taps, grad=view == self.mixed)
            for view in (self.unlabeled, self.mixed)
            for network in self.networks
        ]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_student`` and ``loss_peer``; put the share of pixels with one label into the statistics."""
        logits, labels = [], []
        for network in self.networks:
            found = self.logits.labels(
                step, network, self.unlabeled, mask_padding=self.mask_padding
            )
            labels.append(step.carry(found, self.mixed))
            logits.append(self.logits.full(step, network, self.mixed))
        check_same_classes('CrossPseudoSupervision', self.networks[1], logits[1], logits[0])
        step.statistics['cps.agreement'] = agreement(*labels)
        return {
            'loss_student': pixel_cross_entropy(logits[0], labels[1]),
            'loss_peer': pixel_cross_entropy(logits[1], labels[0]),
        }
