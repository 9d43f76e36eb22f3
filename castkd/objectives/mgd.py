"""MGD: multi-granularity distillation from two complementary teachers.

Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic Segmentation", ECCV 2022
(arXiv 2208.10169).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.losses import ImageSemanticLoss, RegionContentLoss, pixel_cross_entropy
from castkd.objectives.base import Objective
from castkd.objectives.pixels import LogitMaps, agreement, check_same_classes
from castkd.registry import MODELS
from castkd.semantic import IGNORE
from castkd.structures import STUDENT, Pass, Step
from castkd.teachers import Teacher


@MODELS.register_module()
class MultiGranularity(Objective):
    """Distil a deeper and a wider teacher at three levels.

    Logits are resized to the images as each network's decode head resizes them.

    - Pixel, both teachers: cross-entropy against their hard labels, of labelled images and of unlabelled ones;
      these are labelled before mixing, and the labels mixed like the images.
    - Image, deeper teacher: :func:`~castkd.losses.image_semantic_loss` of the logits on the mixed images.
    - Region, wider teacher: :func:`~castkd.losses.region_content_loss` of the feature on the mixed images.

    A teacher's labels have no ignored pixels as published: padding, and what the truth ignores, counts like the rest
    unless it is masked, which the pixel level alone can do. The loss on the truth is another objective,
    :class:`~castkd.objectives.supervised.Supervised`. A level of weight 0 asks for no pass.

    Args:
        deeper: Name of the deeper teacher.
        wider: Name of the wider teacher.
        labeled: View of the labelled images.
        unlabeled: View of the unlabelled images before mixing.
        mixed: Derived view of the mixed images, see :class:`~castkd.distiller.cutmix.CutMix`.
        logits: Tap of the logits of all networks, (B, C, h, w).
        feature: Tap of the feature before the classifier, (B, D, h, w); the widths may differ. The default lies behind
            the head's dropout, which the shipped networks have off; with dropout tap ``decode_head.dropout:input``.
        pixel_weight: Factor of the four cross-entropies, at least 0.
        image_weight: Factor of the image level (lambda_1), at least 0.
        region_weight: Factor of the region level (lambda_2), at least 0.
        mask_ignored: Whether the pixel level leaves out labelled pixels that the truth ignores (255).
        mask_padding: Whether the pixel level leaves out the padding that makes images of a batch equal in size.
        weight: Factor of all levels, see :class:`~castkd.objectives.base.Objective`.

    Raises:
        ConfigError: When a weight is below 0, all levels have weight 0, or (in a step) a teacher has other classes.
    """

    def __init__(
        self,
        deeper: str = 'deeper',
        wider: str = 'wider',
        labeled: str = 'sup',
        unlabeled: str = 'unsup_teacher',
        mixed: str = 'unsup_mixed',
        logits: str = 'decode_head',
        feature: str = 'decode_head.conv_seg:input',
        pixel_weight: float = 1.0,
        image_weight: float = 0.002,
        region_weight: float = 100.0,
        mask_ignored: bool = False,
        mask_padding: bool = False,
        weight: float | dict = 1.0,
    ) -> None:
        super().__init__(weight)
        levels = {'pixel': pixel_weight, 'image': image_weight, 'region': region_weight}
        for name, value in levels.items():
            check_number('MultiGranularity', f'{name}_weight', value, low=0)
        if not any(levels.values()):
            raise ConfigError(
                'MultiGranularity: all levels have weight 0, nothing is left to distil; remove the objective'
            )
        self.deeper = deeper
        self.wider = wider
        self.labeled = labeled
        self.unlabeled = unlabeled
        self.mixed = mixed
        self.logits = LogitMaps(logits)
        self.feature = feature
        self.levels = levels
        self.mask_ignored = mask_ignored
        self.mask_padding = mask_padding
        self.image_loss = ImageSemanticLoss()
        self.region_loss = RegionContentLoss()

    def bind(self, trained: Mapping[str, nn.Module], teachers: Mapping[str, Teacher]) -> None:
        """Keep how each network resizes its logits."""
        self.logits.bind(trained, teachers)

    def passes(self) -> list[Pass]:
        """Return the runs that the levels need: a teacher sees the mix only where its output on it is compared."""
        requests = []
        if self.levels['pixel']:
            requests += [
                Pass(teacher, view, 'forward', (self.logits.tap,))
                for view in (self.labeled, self.unlabeled)
                for teacher in (self.deeper, self.wider)
            ]
            requests += [
                Pass(STUDENT, view, 'forward', (self.logits.tap,))
                for view in (self.labeled, self.mixed)
            ]
        if self.levels['image']:
            requests += [
                Pass(network, self.mixed, 'forward', (self.logits.tap,))
                for network in (self.deeper, STUDENT)
            ]
        if self.levels['region']:
            requests += [
                Pass(network, self.mixed, 'forward', (self.feature,))
                for network in (self.wider, STUDENT)
            ]
        return requests

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the losses of the levels, times their weights; statistics say how often both teachers agree."""
        losses = {}
        if self.levels['pixel'] or self.levels['image']:
            mixed = self.logits.full(step, STUDENT, self.mixed)
        if self.levels['pixel']:
            losses['loss_pixel_labeled'] = self._pixel_labeled(step)
            losses['loss_pixel_unlabeled'] = self._pixel_unlabeled(step, mixed)
        if self.levels['image']:
            deeper = self.logits.full(step, self.deeper, self.mixed)
            losses['loss_image'] = self.image_loss(mixed, deeper)
        if self.levels['region']:
            losses['loss_region'] = self.region_loss(
                step[STUDENT, self.mixed].taps[self.feature],
                step[self.wider, self.mixed].taps[self.feature],
            )
        return {name: value * self.levels[name.split('_')[1]] for name, value in losses.items()}

    def _pixel_labeled(self, step: Step) -> Tensor:
        student = self.logits.full(step, STUDENT, self.labeled)
        targets = [
            self._labels(step, teacher, self.labeled, student)
            for teacher in (self.deeper, self.wider)
        ]
        if self.mask_ignored:
            truth = torch.cat([sample.gt_sem_seg.data for sample in step.samples[self.labeled]])
            targets = [target.masked_fill(truth == IGNORE, IGNORE) for target in targets]
        return self._pixel(student, targets)

    def _pixel_unlabeled(self, step: Step, student: Tensor) -> Tensor:
        # The mask takes each pixel from one image, so mixed labels are the labels of mixed logits.
        targets = [
            step.carry(self._labels(step, teacher, self.unlabeled, student), self.mixed)
            for teacher in (self.deeper, self.wider)
        ]
        step.statistics['mgd.agreement'] = agreement(*targets)
        return self._pixel(student, targets)

    def _pixel(self, student: Tensor, targets: Sequence[Tensor]) -> Tensor:
        return sum(pixel_cross_entropy(student, target) for target in targets)

    def _labels(self, step: Step, teacher: str, view: str, student: Tensor) -> Tensor:
        logits = step[teacher, view].taps[self.logits.tap]
        check_same_classes('MultiGranularity', teacher, logits, student)
        return self.logits.labels(step, teacher, view, mask_padding=self.mask_padding)
