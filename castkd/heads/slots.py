"""Prediction slots of dense heads: class scores and a box per anchor or point, whatever the head calls them.

Teacher and student with the same geometry have the same slots, one by one, so that their predictions can be compared
without matching. What belongs to a set of boxes is asked of the head's own assignment of labels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmengine.structures import InstanceData
from torch import Tensor, nn

from castkd.errors import ConfigError
from castkd.heads.regions import RegionHeads

_ELEMENTWISE = {'L1Loss', 'SmoothL1Loss'}


@dataclass(frozen=True)
class Slots:
    """What a dense head predicts for B images in R slots.

    Attributes:
        logits: Class logits (B, R, C), each class for itself (sigmoid).
        regression: (B, R, D), the box in the head's encoding, at least float32.
        priors: Anchors (R, 4) or points (R, 2), in pixels.
        strides: (R,), stride of the level of each slot.
        sizes: Height and width of every level; levels follow each other, fine to coarse.
        centerness: Logits (B, R) of FCOS and ATSS; None for other heads.
    """

    logits: Tensor
    regression: Tensor
    priors: Tensor
    strides: Tensor
    sizes: tuple[tuple[int, int], ...]
    centerness: Tensor | None = None


class SlotReader(ABC):
    """Reads the slots of one dense head of mmdet.

    Args:
        head: The head; it is kept here, where it is no part of a module.
        owner: The network's name, for errors.
        scale: Factor of the network's images to those in whose pixels slots are given.

    Attributes:
        heads: Names of the head classes that a reader understands; those derived from them may predict otherwise.

    Raises:
        ConfigError: When the head's class scores compete (softmax).
    """

    heads: tuple[str, ...] = ()

    def __init__(self, head: nn.Module, owner: str, scale: float = 1.0) -> None:
        if not head.use_sigmoid_cls:
            raise ConfigError(
                f'{owner}: the classes of its {type(head).__name__} compete in a softmax; slots are compared by '
                'independent scores, so loss_cls needs use_sigmoid=True'
            )
        self.head = head
        self.owner = owner
        self.scale = scale

    @property
    def strides(self) -> list[float]:
        """Return the strides of the pyramid, fine to coarse."""
        strides = [stride[0] for stride in self.head.prior_generator.strides]
        return strides if self.scale == 1 else [round(stride / self.scale, 4) for stride in strides]

    @property
    def delta_beta(self) -> float | None:
        """Return the threshold of the head's smooth L1 loss of encoded boxes, 0 for L1.

        None where the head's loss compares boxes themselves, see :meth:`box_distance`.
        """
        if getattr(self.head, 'reg_decoded_bbox', False):
            return None
        loss = self.head.loss_bbox
        if type(loss).__name__ not in _ELEMENTWISE:
            return None
        return float(getattr(loss, 'beta', 0.0))

    @property
    def has_centerness(self) -> bool:
        """Tell whether the head says how near to an object's middle a slot is."""
        return getattr(self.head, 'loss_centerness', None) is not None

    def geometry(self) -> dict[str, Any]:
        """Return by name what two networks must share so that their slots are the same."""
        generator = self.head.prior_generator
        anchors = [
            # Rounded: two divisions may differ in the last digit.
            (values / self.scale).round(decimals=4).tolist()
            for values in getattr(generator, 'base_anchors', [])
        ]
        coder = self.head.bbox_coder
        return {
            'head': type(self).__name__,
            'number of classes': self.head.num_classes,
            'strides': self.strides,
            'anchors': (anchors, getattr(generator, 'offset', None)),
            'box coder': (type(coder).__name__, vars(coder)),
        }

    def read(self, outputs: Sequence[Sequence[Tensor]]) -> Slots:
        """Return the slots of a head's raw outputs: class logits per level, box regressions per level, and maybe more.

        Gradient flows to the outputs.
        """
        scores, boxes = outputs[:2]
        sizes = tuple((level.shape[2], level.shape[3]) for level in scores)
        levels = self.head.prior_generator.grid_priors(sizes, device=scores[0].device)
        counts = [len(level) for level in levels]
        strides = torch.tensor(self.strides[: len(levels)], device=scores[0].device)
        strides = strides.repeat_interleave(torch.tensor(counts, device=scores[0].device))
        regression = _joined(boxes, counts)
        return Slots(
            logits=_joined(scores, counts),
            regression=self._in_eval_units(regression.float(), strides),
            priors=torch.cat(levels) / self.scale,
            strides=strides,
            sizes=sizes,
            centerness=_joined(outputs[2], counts)[..., 0] if self.has_centerness else None,
        )

    def _in_eval_units(self, regression: Tensor, strides: Tensor) -> Tensor:
        """Return regressions in one unit, whether the head trains or not and whatever the images' size."""
        del strides
        return regression

    @abstractmethod
    def decode(self, slots: Slots, image: int, where: Tensor) -> Tensor:
        """Return boxes (N, 4), x1, y1, x2, y2 in pixels, not clipped, with gradient.

        Args:
            slots: The slots.
            image: Which of the B images.
            where: (N,) indices or (R,) bool: which slots.
        """

    def box_distance(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Return the head's own loss of boxes (N, 4), per box (N,), without its weight."""
        loss = self.head.loss_bbox
        each = loss(boxes, targets, reduction_override='none') / loss.loss_weight
        return each.sum(dim=1) if each.dim() == 2 else each

    @abstractmethod
    def check_assignment(self) -> None:
        """Check that :meth:`assign` can be asked.

        Raises:
            ConfigError: When the head has no assignment of labels, or one that asks for more than boxes.
        """

    @abstractmethod
    def assign(self, boxes: Tensor, slots: Slots, meta: dict) -> Tensor:
        """Say which slots the head would train on if ``boxes`` were the objects of the image.

        Args:
            boxes: (k, 4), in pixels; k may be 0.
            slots: The slots, of which priors and sizes are read.
            meta: Meta information of the image: ``img_shape`` and ``pad_shape``.

        Returns:
            (R,) bool.
        """


class AnchorSlots(SlotReader):
    """Slots of heads that regress deltas of anchors: RetinaNet, ATSS, and the proposal head of two-stage detectors."""

    heads = ('AnchorHead', 'RetinaHead', 'RetinaSepBNHead', 'ATSSHead', 'RPNHead')

    def decode(self, slots: Slots, image: int, where: Tensor) -> Tensor:
        """Return boxes (N, 4), see :meth:`SlotReader.decode`."""
        return self.head.bbox_coder.decode(slots.priors[where], slots.regression[image, where])

    def check_assignment(self) -> None:
        """Check that the head assigns by boxes alone, see :meth:`SlotReader.check_assignment`."""
        assigner = getattr(self.head, 'assigner', None)
        kind = type(assigner).__name__
        known = kind in ('MaxIoUAssigner', 'ATSSAssigner')
        # With alpha, ATSS weighs overlaps with the scores of classes, which boxes without labels do not have.
        if not known or getattr(assigner, 'alpha', None) is not None:
            raise ConfigError(
                f'{self.owner}: the response covers the slots that {type(self.head).__name__} would train on, by '
                f'MaxIoUAssigner or ATSSAssigner without alpha; train_cfg has {kind if assigner else "no assigner"}'
            )

    def assign(self, boxes: Tensor, slots: Slots, meta: dict) -> Tensor:
        """Return (R,) bool by the head's assigner, see :meth:`SlotReader.assign`; nothing is sampled or drawn."""
        device = slots.priors.device
        chosen = torch.zeros(len(slots.priors), dtype=torch.bool, device=device)
        if not len(boxes):
            return chosen
        flags = self.head.prior_generator.valid_flags(slots.sizes, meta['pad_shape'], device)
        inside = anchor_inside_flags(
            slots.priors,
            torch.cat(flags),
            meta['img_shape'][:2],
            self.head.train_cfg['allowed_border'],
        )
        priors = InstanceData(priors=slots.priors[inside])
        if type(self.head.assigner).__name__ == 'ATSSAssigner':
            counts = [len(level) for level in flags]
            inside_counts = self.head.get_num_level_anchors_inside(counts, inside)
            found = self.head.assigner.assign(priors, inside_counts, _as_objects(boxes))
        else:
            found = self.head.assigner.assign(priors, _as_objects(boxes))
        chosen[inside] = found.gt_inds > 0
        return chosen


class GFLSlots(AnchorSlots):
    """Slots of GFL, which regresses a distribution over the distance to each side."""

    heads = ('GFLHead', 'LDHead')

    def decode(self, slots: Slots, image: int, where: Tensor) -> Tensor:
        """Return boxes (N, 4), see :meth:`SlotReader.decode`."""
        centres = self.head.anchor_center(slots.priors[where])
        distances = self.head.integral(slots.regression[image, where])
        return self.head.bbox_coder.decode(centres, distances * slots.strides[where][:, None])


class FCOSSlots(SlotReader):
    """Slots of FCOS: the distances from a point to the four sides. Scores are those of classes alone."""

    heads = ('FCOSHead', 'NASFCOSHead')

    def _in_eval_units(self, regression: Tensor, strides: Tensor) -> Tensor:
        if self.head.norm_on_bbox and self.head.training:
            return regression * strides[:, None]
        return regression / self.scale

    def decode(self, slots: Slots, image: int, where: Tensor) -> Tensor:
        """Return boxes (N, 4), see :meth:`SlotReader.decode`."""
        return self.head.bbox_coder.decode(slots.priors[where], slots.regression[image, where])

    def check_assignment(self) -> None:
        """Accept: the head assigns by itself."""

    def assign(self, boxes: Tensor, slots: Slots, meta: dict) -> Tensor:
        """Return (R,) bool: inside a box (its middle, with centre sampling) and of the level's range of sizes."""
        del meta
        counts = [height * width for height, width in slots.sizes]
        labels, _ = self.head.get_targets(list(slots.priors.split(counts)), [_as_objects(boxes)])
        return torch.cat(labels) < self.head.num_classes


READERS = (AnchorSlots, GFLSlots, FCOSSlots)


def slot_reader(network: nn.Module, owner: str, scale: float = 1.0) -> SlotReader:
    """Return the reader of a detector's dense head: the proposal head of a two-stage detector, else its only one.

    Args:
        network: A detector.
        owner: Its name, for errors.
        scale: See :class:`SlotReader`.

    Raises:
        ConfigError: When there is no reader for its head.
    """
    head = getattr(network, dense_head(network), None)
    kind = type(head).__name__
    for reader in READERS:
        if kind in reader.heads:
            return reader(head, owner, scale)
    known = ', '.join(name for reader in READERS for name in reader.heads)
    what = f'the head {kind}' if head is not None else 'no dense head'
    raise ConfigError(f'{owner}: {type(network).__name__} has {what}; slots are read from {known}')


def dense_head(network: nn.Module) -> str:
    """Return the path of the head that looks at every place of the image."""
    return 'rpn_head' if getattr(network, 'rpn_head', None) is not None else 'bbox_head'


def check_same_geometry(
    student: SlotReader | RegionHeads, teacher: SlotReader | RegionHeads
) -> None:
    """Check that the predictions of two networks are of the same things, one by one.

    Raises:
        ConfigError: Naming the first thing in which they differ.
    """
    other = teacher.geometry()
    for name, value in student.geometry().items():
        if value != other[name]:
            own, others = _where_they_differ(str(value), str(other[name]))
            raise ConfigError(
                f'{student.owner} and {teacher.owner} differ in {name}: {own} and {others}; '
                'their predictions are compared one by one, so give both the same'
            )


def _where_they_differ(first: str, second: str, limit: int = 80) -> tuple[str, str]:
    """Return ``limit`` characters of two different texts, from a little before the first that differs."""
    pairs = enumerate(zip_longest(first, second))
    start = max(0, next(place for place, (own, other) in pairs if own != other) - limit // 4)
    return tuple(
        ('...' if start else '')
        + text[start : start + limit]
        + ('...' if text[start + limit :] else '')
        for text in (first, second)
    )


def _joined(levels: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return maps (B, A D, h, w) of all levels as one tensor (B, R, D), in the order of the priors."""
    return torch.cat(
        [
            level.permute(0, 2, 3, 1).reshape(len(level), count, -1)
            for level, count in zip(levels, counts, strict=True)
        ],
        dim=1,
    )


def _as_objects(boxes: Tensor) -> InstanceData:
    """Return boxes as objects of the first class."""
    labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    return InstanceData(bboxes=boxes, labels=labels)
