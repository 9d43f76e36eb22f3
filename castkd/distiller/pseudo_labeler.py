"""Turn a teacher's outputs into targets for the student's view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.structures.mask import BitmapMasks, mask2bbox
from mmengine.structures import InstanceData
from torch import Tensor

from castkd.checks import check_number
from castkd.datasets.pseudo_filter import (
    FilterOptions,
    filter_instances,
    select_instances,
)
from castkd.datasets.transforms.geometry import relative_homography, warp_boxes, warp_masks
from castkd.errors import ConfigError
from castkd.registry import MODELS
from castkd.structures import Pass, PassResult, PseudoTargets
from castkd.teachers import Teacher


@dataclass
class PseudoBatch:
    """Pseudo-labels of one batch.

    Attributes:
        samples: Data samples of the student's view whose ``gt_instances`` are the pseudo-labels.
        statistics: Numbers for the log: candidates, those that the filter accepted, those kept in the
            student's view, share of images with labels, best score.
    """

    samples: list
    statistics: dict[str, float]


class PseudoLabeler(ABC):
    """Base of the pseudo-labellers: filter in the teacher's view, carry to the student's.

    Args:
        min_area: Smallest area in the student's view, in pixels, of a mask (of a box where the teacher
            gives none); smaller ones are dropped.
    """

    def __init__(self, min_area: float = 1.0) -> None:
        check_number(type(self).__name__, 'min_area', min_area, low=0)
        self.min_area = min_area

    @abstractmethod
    def request(self, targets: PseudoTargets) -> Pass:
        """Return the teacher's run that the labels are read from."""

    @abstractmethod
    def candidates(self, result: PassResult, teacher: Teacher, samples: list) -> list[InstanceData]:
        """Return per image all instances that may become labels, best score first.

        Each has ``labels`` (n,), ``scores`` (n,), ``accepted`` (n,) bool and, in the teacher view's input pixels,
        ``masks`` (n, H, W) bool or ``bboxes`` (n, 4).
        """

    def __call__(
        self, result: PassResult, teacher: Teacher, teacher_samples: list, student_samples: list
    ) -> PseudoBatch:
        """Make targets for one batch.

        Args:
            result: Result of the teacher's run that :meth:`request` asked for.
            teacher: The teacher.
            teacher_samples: Data samples of the view that the teacher saw.
            student_samples: Data samples of the view that the student sees.

        Returns:
            The labels and what was counted on the way.
        """
        labelled, scores = [], []
        counts = dict.fromkeys(('candidates', 'accepted', 'kept'), 0.0)
        found = self.candidates(result, teacher, teacher_samples)
        for instances, source, target in zip(found, teacher_samples, student_samples, strict=True):
            counts['candidates'] += len(instances)
            counts['accepted'] += instances.accepted.sum().item()
            scores.append(instances.scores.max().item() if len(instances) else 0.0)
            accepted = instances[instances.accepted]
            sample = target.clone()
            sample.gt_instances = carry_instances(accepted, source, target, self.min_area)
            counts['kept'] += len(sample.gt_instances)
            labelled.append(sample)
        with_labels = sum(len(sample.gt_instances) > 0 for sample in labelled)
        statistics = {
            **counts,
            'images_with_labels': with_labels / max(len(labelled), 1),
            'max_score': max(scores, default=0.0),
        }
        return PseudoBatch(labelled, statistics)


def carry_instances(
    instances: InstanceData, source: object, target: object, min_area: float = 1.0
) -> InstanceData:
    """Carry instances from one view of an image to another by the recorded homographies.

    Args:
        instances: With ``labels`` (n,), ``scores`` (n,) and, in the source view's input pixels, ``masks``
            (n, H, W) bool, or ``bboxes`` (n, 4) where the detector has no masks.
        source: Data sample of the view they were found in.
        target: Data sample of the view they are wanted in.
        min_area: What has fewer pixels in the target view is dropped.

    Returns:
        Instances with ``labels``, ``scores``, ``bboxes`` (m, 4) and, if there were masks, ``masks`` (BitmapMasks of
        the target view's padded size), as mmdet heads expect their targets.
    """
    matrix = relative_homography(source, target)
    carry = _carry_masks if 'masks' in instances else _carry_boxes
    keep, shapes = carry(instances, matrix, target, max(min_area, 1.0))
    return InstanceData(labels=instances.labels[keep], scores=instances.scores[keep], **shapes)


def _carry_masks(
    instances: InstanceData, matrix: Tensor, target: object, min_area: float
) -> tuple[Tensor, dict]:
    """Return which masks (n,) are left in the target view, and those with their boxes."""
    shape = target.metainfo.get('batch_input_shape', target.metainfo['img_shape'])[:2]
    masks = warp_masks(instances.masks, matrix, shape)
    height, width = target.metainfo['img_shape'][:2]
    masks[:, height:] = False
    masks[:, :, width:] = False
    keep = masks.flatten(1).sum(1) >= min_area
    masks = masks[keep]
    bitmaps = BitmapMasks(masks.cpu().numpy().astype(np.uint8), *shape)
    return keep, {'bboxes': mask2bbox(masks).to(instances.scores.dtype), 'masks': bitmaps}


def _carry_boxes(
    instances: InstanceData, matrix: Tensor, target: object, min_area: float
) -> tuple[Tensor, dict]:
    """Return which boxes (n,) are left in the target view, and those."""
    boxes = warp_boxes(instances.bboxes, matrix, target.metainfo['img_shape'][:2])
    keep = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) >= min_area
    return keep, {'bboxes': boxes[keep]}


@MODELS.register_module()
class InstancePseudoLabeler(PseudoLabeler):
    """Pseudo-labels from post-processed predictions: masks, or boxes of a detector without masks.

    What is accepted is decided in pixels of the teacher's view, by the rules of label files
    (:class:`~castkd.datasets.pseudo_filter.FilterOptions`); only overlaps are kept unless it is asked otherwise.

    Args:
        score_thr: Instances need a score above it, in [0, 1].
        max_per_image: At most this many instances, the best first.
        min_area: See :class:`PseudoLabeler`.
        mask_score_thr: Instances need a mask score above it, in [0, 1]. A teacher that gives no ``mask_scores`` has its
            scores taken.
        overlap: Who owns a pixel that several masks claim: the higher ``score``, the smaller ``area``, or everyone
            (``keep``).
        min_kept: Instances that keep a smaller share of their own pixels, once overlaps are settled, are dropped, in
            [0, 1].

    Raises:
        ConfigError: When an option is out of its range.
    """

    def __init__(
        self,
        score_thr: float = 0.3,
        max_per_image: int = 100,
        min_area: float = 1.0,
        mask_score_thr: float = 0.0,
        overlap: str = 'keep',
        min_kept: float = 0.0,
    ) -> None:
        super().__init__(min_area)
        self.options = FilterOptions(
            score_thr=score_thr,
            mask_score_thr=mask_score_thr,
            max_per_image=max_per_image,
            overlap=overlap,
            min_kept=min_kept,
        )

    def request(self, targets: PseudoTargets) -> Pass:
        """Ask for predictions."""
        return Pass(targets.teacher, targets.view, 'predict', grad=False)

    def candidates(self, result: PassResult, teacher: Teacher, samples: list) -> list[InstanceData]:
        """Return the predictions, best first.

        Raises:
            ConfigError: When overlaps are to be settled and the teacher predicts no masks.
        """
        del samples
        return [self._image(sample.pred_instances, teacher) for sample in result.predictions]

    def _image(self, predicted: InstanceData, teacher: Teacher) -> InstanceData:
        instances = predicted[predicted.scores.argsort(descending=True, stable=True)]
        scores = instances.scores
        mask_scores = instances.get('mask_scores', scores)
        if 'masks' in instances:
            kept, masks = filter_instances(scores, mask_scores, instances.masks, self.options)
            instances.masks[kept] = masks
        elif self.options.overlap == 'keep':
            kept = select_instances(scores, mask_scores, self.options)
        else:
            raise ConfigError(
                f'InstancePseudoLabeler: overlap={self.options.overlap!r} needs masks, and teacher {teacher.name!r} '
                "predicts boxes only; leave overlap at 'keep'"
            )
        instances.accepted = torch.zeros_like(scores, dtype=torch.bool)
        instances.accepted[kept] = True
        return instances


@MODELS.register_module()
class QueryPseudoLabeler(PseudoLabeler):
    """Pseudo-labels from raw queries, one label per query (Guided Distillation, Berrada et al., WACV 2024).

    A query is kept when its most likely class is not "no object", that class has a probability above
    ``score_thr``, and its mask probabilities sum to more than ``min_soft_area`` on the head's own mask
    grid. Overlaps are kept.

    Args:
        score_thr: Smallest class probability, in [0, 1].
        min_soft_area: Smallest sum of mask probabilities, in cells of the head's mask grid.
        head: Path of the query head inside the teacher; its output is (class logits per layer, mask logits per layer).
        min_area: See :class:`PseudoLabeler`.
    """

    def __init__(
        self,
        score_thr: float = 0.7,
        min_soft_area: float = 5.0,
        head: str = 'panoptic_head',
        min_area: float = 1.0,
    ) -> None:
        super().__init__(min_area)
        check_number('QueryPseudoLabeler', 'score_thr', score_thr, low=0, high=1)
        check_number('QueryPseudoLabeler', 'min_soft_area', min_soft_area, low=0)
        self.score_thr = score_thr
        self.min_soft_area = min_soft_area
        self.taps = (f'{head}[0][-1]', f'{head}[1][-1]')

    def request(self, targets: PseudoTargets) -> Pass:
        """Ask for the head's raw outputs, whose labels are mapped here."""
        taps = {'taps': self.taps, 'own_classes': self.taps}
        return Pass(targets.teacher, targets.view, 'forward', **taps, grad=False)

    def candidates(self, result: PassResult, teacher: Teacher, samples: list) -> list[InstanceData]:
        """Return one instance per query whose most likely class is an object, best first."""
        cls_logits, mask_logits = (result.taps[path] for path in self.taps)
        shape = samples[0].metainfo['batch_input_shape']
        return [
            self._image(cls_logits[index], mask_logits[index], shape, teacher)
            for index in range(len(samples))
        ]

    def _image(
        self, cls_logits: Tensor, mask_logits: Tensor, shape: tuple[int, int], teacher: Teacher
    ) -> InstanceData:
        scores, labels = cls_logits.float().softmax(-1).max(-1)
        soft_area = mask_logits.float().sigmoid().flatten(1).sum(1)
        is_object = labels < cls_logits.shape[-1] - 1
        order = scores.argsort(descending=True)
        order = order[is_object[order]]
        labels = teacher.map_labels(labels[order])
        known = labels >= 0
        order, labels = order[known], labels[known]
        masks = F.interpolate(
            mask_logits[order][:, None].float(),
            size=tuple(shape),
            mode='bilinear',
            align_corners=False,
        )
        instances = InstanceData()
        instances.labels = labels
        instances.scores = scores[order]
        instances.masks = masks[:, 0] > 0
        instances.accepted = (scores[order] > self.score_thr) & (
            soft_area[order] > self.min_soft_area
        )
        return instances
