"""The response term of GID: heads of both networks compared where the general instances are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from castkd.batch_norms import frozen_batch_statistics
from castkd.errors import ConfigError, near_names
from castkd.heads.regions import RegionHeads, of_class, pooled_levels
from castkd.heads.slots import SlotReader, Slots, check_same_geometry, dense_head, slot_reader
from castkd.losses import (
    GeneralInstances,
    candidate_slots,
    class_divergence,
    delta_response,
    general_instances,
    mask_response,
    soft_class_response,
)
from castkd.structures import STUDENT
from castkd.teachers import Teacher

_OWNER = 'GeneralInstanceDistillation'
# Below this probability of an object, what the teacher draws as its mask means nothing.
_MASKED = 0.3
# Options of the selection on which it depends which slots are looked at.
_RANKING = ('pre_nms', 'score_mode', 'gamma')


@dataclass(frozen=True)
class DetectorPair:
    """How the predictions of student and teacher are read; a plain object, so that no module contains the networks.

    Attributes:
        head: Path of the dense head in both.
        student: Reader of the student's slots.
        teacher: Reader of the teacher's slots.
        strides: Strides of the levels that features are pooled from: those of the RoI head, or all of a single-stage
            detector.
        regions: RoI heads of student and teacher; None for single-stage detectors, and where they are not asked.
    """

    head: str
    student: SlotReader
    teacher: SlotReader
    strides: list[int]
    regions: tuple[RegionHeads, RegionHeads] | None

    @classmethod
    def of(
        cls,
        trained: Mapping[str, nn.Module],
        teachers: Mapping[str, Teacher],
        teacher: str,
        with_regions: bool = True,
    ) -> DetectorPair:
        """Return the pair of the student and one teacher, with the RoI heads of two-stage detectors if wanted.

        Raises:
            ConfigError: When there is no such teacher, a head cannot be read, or the dense heads differ in what their
                predictions stand for.
        """
        if teacher not in teachers:
            hint = near_names(teacher, teachers)
            raise ConfigError(f'{_OWNER}: no teacher is called {teacher!r}; {hint}')
        found = teachers[teacher]
        # All is compared in the student's pixels: of a teacher that sees images twice as large, the level of stride 8
        # has the cells of the student's of stride 4.
        networks = [
            (trained[STUDENT], 'the student', 1.0),
            (found.model, f'teacher {teacher!r}', found.input_scale),
        ]
        readers = [slot_reader(*network) for network in networks]
        check_same_geometry(*readers)
        head = dense_head(trained[STUDENT])
        strides, regions = readers[0].strides, None
        if head == 'rpn_head':
            strides = strides[: pooled_levels(trained[STUDENT])]
            if with_regions:
                regions = tuple(RegionHeads(*network) for network in networks)
        return cls(head, *readers, strides, regions)

    @torch.no_grad()
    def select(
        self, student: Slots, teacher: Slots, samples: list, options: Mapping
    ) -> list[GeneralInstances]:
        """Return the general instances of every image; ``options`` are those of the selection."""
        return [
            self._select(student, teacher, image, sample.metainfo['img_shape'], options)
            for image, sample in enumerate(samples)
        ]

    def _select(
        self,
        student: Slots,
        teacher: Slots,
        image: int,
        img_shape: tuple[int, int],
        options: Mapping,
    ) -> GeneralInstances:
        scores_t, scores_s = (slots.logits[image].float().sigmoid() for slots in (teacher, student))
        ranking = {name: options[name] for name in _RANKING if name in options}
        where = candidate_slots(scores_t, scores_s, **ranking)
        found = general_instances(
            scores_t[where],
            scores_s[where],
            self.teacher.decode(teacher, image, where),
            self.student.decode(student, image, where),
            img_shape[:2],
            **options,
        )
        return replace(found, slots=where[found.slots])


@dataclass(frozen=True)
class Response:
    """Which predictions are compared, and with which weights; a part whose weights are 0 costs nothing.

    Attributes:
        class_weight: alpha, of class scores.
        box_weight: beta, of boxes.
        mask_weight: Of masks.
        proposals: Whether the proposal head of a two-stage detector takes part.
        regions: Whether its RoI head takes part.
        centerness: Whether centre-ness takes part, with the weight of class scores.
    """

    class_weight: float
    box_weight: float
    mask_weight: float
    proposals: bool
    regions: bool
    centerness: bool = False

    @property
    def asks_regions(self) -> bool:
        """Tell whether RoI heads take part where there are any."""
        return bool(self.mask_weight or (self.regions and (self.class_weight or self.box_weight)))

    def uses_slots(self, pair: DetectorPair) -> bool:
        """Tell whether dense heads are compared."""
        return bool(self.class_weight or self.box_weight) and (
            self.proposals or pair.head != 'rpn_head'
        )

    def uses_regions(self, pair: DetectorPair) -> bool:
        """Tell whether classes and boxes of RoI heads are compared."""
        return bool(self.class_weight or self.box_weight) and (
            self.regions and pair.regions is not None
        )

    def uses_masks(self, pair: DetectorPair) -> bool:
        """Tell whether masks are compared."""
        return bool(self.mask_weight) and pair.regions is not None and pair.regions[0].has_masks

    def check(self, pair: DetectorPair) -> None:
        """Check that what is compared can be.

        Raises:
            ConfigError: When the student's head does not assign labels to boxes alone, or has no centre-ness though it
                is to be compared, or the RoI heads differ.
        """
        if self.uses_slots(pair):
            pair.student.check_assignment()
        if self.centerness and not pair.student.has_centerness:
            raise ConfigError(
                f'{_OWNER}: {type(pair.student.head).__name__} has no centre-ness; set centerness=False'
            )
        if self.uses_regions(pair) or self.uses_masks(pair):
            check_same_geometry(*pair.regions)

    def of_slots(
        self,
        pair: DetectorPair,
        student: Slots,
        teacher: Slots,
        found: list[GeneralInstances],
        samples: list,
    ) -> dict[str, Tensor]:
        """Compare the slots that the student would train on if the instances were objects.

        Slots in which the teacher is not finite are left out.

        Returns:
            ``loss_cls``, ``loss_centerness`` and ``loss_reg``, weighted, as far as they take part, and
            ``class_excess``: how far the unweighted first is above the teacher's own entropy, which stays when both
            agree.
        """
        chosen = torch.stack(
            [
                pair.student.assign(instances.boxes, student, sample.metainfo)
                for instances, sample in zip(found, samples, strict=True)
            ]
        )
        chosen &= teacher.logits.isfinite().all(dim=2) & teacher.regression.isfinite().all(dim=2)
        if self.centerness:
            chosen &= teacher.centerness.isfinite()
        losses = {}
        if self.class_weight:
            logits, targets = student.logits[chosen], teacher.logits[chosen]
            value = soft_class_response(logits, targets)
            losses['loss_cls'] = self.class_weight * value
            losses['class_excess'] = value.detach() - soft_class_response(targets, targets)
        if self.class_weight and self.centerness:
            own, other = (slots.centerness[chosen][:, None] for slots in (student, teacher))
            losses['loss_centerness'] = self.class_weight * soft_class_response(own, other)
        if self.box_weight:
            losses['loss_reg'] = self.box_weight * _box_response(pair, student, teacher, chosen)
        return losses

    def of_regions(
        self, pair: DetectorPair, own: Sequence[Tensor], other: Sequence[Tensor], rois: Tensor
    ) -> dict[str, Tensor]:
        """Compare what both RoI heads say of the instances.

        Those whose classes or boxes, or for the mask response masks, are not finite in the teacher are left out.

        Args:
            pair: The networks.
            own: Pyramid of the student, levels (B, C, h, w).
            other: Pyramid of the teacher.
            rois: (G, 5), the instances' images and boxes.

        Returns:
            ``loss_roi_cls``, ``loss_roi_reg`` and ``loss_mask``, weighted, as far as they take part.
        """
        student, teacher = pair.regions
        if len(rois):
            with torch.no_grad():
                targets, target_deltas = teacher.boxes(other, rois)
            finite = targets.isfinite().all(dim=1) & target_deltas.flatten(1).isfinite().all(dim=1)
            rois, targets, target_deltas = rois[finite], targets[finite], target_deltas[finite]
        if not len(rois):
            return self._of_no_region(pair, own)
        probabilities = targets.float().softmax(dim=1)
        foreground = 1 - probabilities[:, -1]
        classes = probabilities[:, :-1].argmax(dim=1)
        losses = {}
        with frozen_batch_statistics(student.roi_head):
            if self.uses_regions(pair):
                logits, deltas = student.boxes(own, rois)
                values = {
                    'cls': class_divergence(logits, targets),
                    'reg': delta_response(
                        of_class(deltas, classes),
                        of_class(target_deltas, classes),
                        beta=student.delta_beta,
                        weight=foreground,
                    ),
                }
                weights = self._region_weights()
                losses |= {f'loss_roi_{key}': weights[key] * values[key] for key in weights}
            if self.uses_masks(pair):
                with torch.no_grad():
                    target_masks = of_class(teacher.masks(other, rois), classes)
                masks = of_class(student.masks(own, rois), classes)
                drawn = target_masks.flatten(1).isfinite().all(dim=1)
                weight = foreground * (foreground >= _MASKED)
                value = mask_response(masks[drawn], target_masks[drawn], weight[drawn])
                losses['loss_mask'] = self.mask_weight * value
        return losses

    def _region_weights(self) -> dict[str, float]:
        weights = {'cls': self.class_weight, 'reg': self.box_weight}
        return {key: weight for key, weight in weights.items() if weight}

    def _of_no_region(self, pair: DetectorPair, own: Sequence[Tensor]) -> dict[str, Tensor]:
        names = []
        if self.uses_regions(pair):
            names += [f'loss_roi_{key}' for key in self._region_weights()]
        names += ['loss_mask'] if self.uses_masks(pair) else []
        return dict.fromkeys(names, sum(level[:0].sum() for level in own))


def _box_response(pair: DetectorPair, student: Slots, teacher: Slots, chosen: Tensor) -> Tensor:
    """Return the distance of boxes in the slots ``chosen`` (B, R), as the student's head measures it."""
    beta = pair.student.delta_beta
    if beta is not None:
        return delta_response(student.regression[chosen], teacher.regression[chosen], beta=beta)
    boxes, targets = (
        torch.cat([reader.decode(slots, image, where) for image, where in enumerate(chosen)])
        for reader, slots in ((pair.student, student), (pair.teacher, teacher))
    )
    if not len(boxes):
        return boxes.sum()
    return pair.student.box_distance(boxes, targets.detach()).mean()
