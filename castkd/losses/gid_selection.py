"""General instances: the boxes of an image on which teacher and student disagree most.

Dai et al., "General Instance Distillation for Object Detection", CVPR 2021 (arXiv 2103.02340).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError

SCORE_MODES = ('classwise', 'maxdiff')
_OWNER = 'select_general_instances'
_EPS = 1e-6  # square pixels


@dataclass(frozen=True)
class GeneralInstances:
    """The general instances of one image, highest score first.

    Attributes:
        boxes: (k, 4), x1, y1, x2, y2 in pixels, inside the image.
        scores: (k,), the disagreement in [0, 1] (more with ``gamma``).
        slots: (k,), int64: index of the prediction slot each came from.
        from_teacher: (k,), bool: whether the box is the teacher's, else the student's.
    """

    boxes: Tensor
    scores: Tensor
    slots: Tensor
    from_teacher: Tensor

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.boxes)


def disagreement(
    scores_t: Tensor, scores_s: Tensor, *, score_mode: str = 'classwise'
) -> tuple[Tensor, Tensor]:
    r"""Say how much teacher and student disagree about every slot, and which of the two is surer of it.

    .. math::
        P^r = \max_c |P_t^{rc} - P_s^{rc}| \quad \text{(classwise, the paper)} \qquad
        P^r = |\max_c P_t^{rc} - \max_c P_s^{rc}| \quad \text{(maxdiff, the author's code)}

    Args:
        scores_t: Class probabilities of the teacher (R, C).
        scores_s: Class probabilities of the student (R, C) for the same slots.
        score_mode: ``classwise`` or ``maxdiff``; the latter does not see that both are sure of different classes.

    Returns:
        Disagreement (R,), and (R,) bool whether the teacher's highest probability is above the student's.
    """
    best_t, best_s = scores_t.amax(dim=1), scores_s.amax(dim=1)
    if score_mode == 'classwise':
        return (scores_t - scores_s).abs().amax(dim=1), best_t > best_s
    return (best_t - best_s).abs(), best_t > best_s


@torch.no_grad()
def candidate_slots(
    scores_t: Tensor,
    scores_s: Tensor,
    pre_nms: int = 3000,
    score_mode: str = 'classwise',
    gamma: float = 0.0,
) -> Tensor:
    """Return the slots whose boxes :func:`select_general_instances` looks at, so that others need not be decoded.

    Args:
        scores_t: Class probabilities of the teacher (R, C).
        scores_s: Class probabilities of the student (R, C) for the same slots.
        pre_nms: See :func:`select_general_instances`, as the other options.
        score_mode: See :func:`disagreement`.
        gamma: Above 0 scores depend on the boxes, so all slots are candidates.

    Returns:
        Indices (N,), int64, highest score first; slots whose score is not finite are no candidates.
    """
    if gamma:
        return torch.arange(len(scores_t), device=scores_t.device)
    scores, _ = disagreement(scores_t, scores_s, score_mode=score_mode)
    return _ranked(scores, scores.isfinite(), pre_nms)


def _ranked(scores: Tensor, usable: Tensor, pre_nms: int) -> Tensor:
    """Return the ``pre_nms`` best usable slots, highest score first."""
    # Stable, so that equal scores are taken in the order of the slots on every device.
    order = scores.masked_fill(~usable, -1.0).argsort(descending=True, stable=True)[:pre_nms]
    return order[usable[order]]


@torch.no_grad()
def general_instances(
    scores_t: Tensor,
    scores_s: Tensor,
    boxes_t: Tensor,
    boxes_s: Tensor,
    img_shape: tuple[int, int],
    num: int = 10,
    iou_thr: float = 0.3,
    pre_nms: int = 3000,
    min_size: float = 10,
    score_mode: str = 'classwise',
    min_score: float = 0.0,
    gamma: float = 0.0,
) -> GeneralInstances:
    """Select general instances as :func:`select_general_instances` does, and tell where each came from."""
    check_selection(num, iou_thr, pre_nms, min_size, score_mode, min_score, gamma)
    _check_tensors(scores_t, scores_s, boxes_t, boxes_s, img_shape)
    scores, from_teacher = disagreement(scores_t, scores_s, score_mode=score_mode)
    if gamma:
        surest = torch.maximum(scores_t.amax(dim=1), scores_s.amax(dim=1))
        scores = scores + gamma * (1 - _overlaps(boxes_t, boxes_s)) * surest
    boxes = torch.where(from_teacher[:, None], boxes_t, boxes_s)
    usable = scores.isfinite() & boxes.isfinite().all(dim=1) & (scores >= min_score)
    order = _ranked(scores, usable, pre_nms)
    clipped = _clip(boxes[order], img_shape)
    large = ((clipped[:, 2:] - clipped[:, :2]) > min_size).all(dim=1)
    order, clipped = order[large], clipped[large]
    kept = _suppress(clipped, num, iou_thr)
    slots = order[kept]
    return GeneralInstances(clipped[kept], scores[slots], slots, from_teacher[slots])


def select_general_instances(
    scores_t: Tensor,
    scores_s: Tensor,
    boxes_t: Tensor,
    boxes_s: Tensor,
    img_shape: tuple[int, int],
    num: int = 10,
    iou_thr: float = 0.3,
    pre_nms: int = 3000,
    min_size: float = 10,
    score_mode: str = 'classwise',
    min_score: float = 0.0,
    gamma: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Select the boxes of one image on which teacher and student disagree most.

    Slots are scored by :func:`disagreement`; a slot's box is the teacher's where the teacher's highest class
    probability is above the student's, else the student's. The ``pre_nms`` best slots are clipped to the image, small
    ones are dropped, and the best are taken one after the other, whatever their class and level, unless they overlap
    one that was taken. Slots whose score or box is not finite are skipped. No gradient flows; labels play no part.

    Args:
        scores_t: Class probabilities of the teacher (R, C) in [0, 1].
        scores_s: Class probabilities of the student (R, C) for the same slots.
        boxes_t: Decoded boxes of the teacher (R, 4), x1, y1, x2, y2 in pixels.
        boxes_s: Decoded boxes of the student (R, 4).
        img_shape: Height and width of the image without padding, in pixels.
        num: K, the most instances of an image; at least 1.
        iou_thr: Boxes that overlap a better one by more than this are dropped, in [0, 1].
        pre_nms: Slots that are looked at, at least 1.
        min_size: Boxes whose width or height is not above this are dropped, in pixels; at least 0.
        score_mode: See :func:`disagreement`.
        min_score: Slots with a lower score are no instances; in [0, 1].
        gamma: At least 0. Above 0, slots in which both are sure of an object but draw it otherwise count too (not in
            the paper): gamma (1 - IoU of the two boxes) times the highest probability of both is added to the score.

    Returns:
        Boxes (k, 4) and scores (k,), highest first; k is at most ``num`` and may be 0.

    Raises:
        ConfigError: When an option is outside its range or a shape is wrong.

    Example:
        >>> teacher, student = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.85]])
        >>> boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0]])
        >>> select_general_instances(teacher, student, boxes, boxes + 2, img_shape=(64, 64))
        (tensor([[ 8.,  8., 40., 40.]]), tensor([0.7500]))
    """
    found = general_instances(
        scores_t,
        scores_s,
        boxes_t,
        boxes_s,
        img_shape,
        num,
        iou_thr,
        pre_nms,
        min_size,
        score_mode,
        min_score,
        gamma,
    )
    return found.boxes, found.scores


def share_on_objects(boxes: Tensor, objects: Tensor) -> Tensor:
    """Return the share of each box's area that lies on the object that has most of it, (k,) in [0, 1].

    Args:
        boxes: (k, 4), x1, y1, x2, y2.
        objects: (m, 4); without any the share is 0.
    """
    shared = _shared(boxes[:, None], objects[None].to(boxes))
    padded = torch.cat([shared, shared.new_zeros(len(boxes), 1)], dim=1)
    return padded.amax(dim=1) / _areas(boxes).clamp(min=_EPS)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def _shared(first: Tensor, second: Tensor) -> Tensor:
    """Return the areas that boxes (..., 4) have in common."""
    corner = torch.maximum(first[..., :2], second[..., :2])
    return (torch.minimum(first[..., 2:], second[..., 2:]) - corner).clamp(min=0).prod(dim=-1)


def _overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of boxes (R, 4), one by one."""
    shared = _shared(first, second)
    return shared / (_areas(first) + _areas(second) - shared).clamp(min=_EPS)


def _clip(boxes: Tensor, img_shape: tuple[int, int]) -> Tensor:
    height, width = img_shape[:2]
    columns = boxes[:, 0::2].clamp(0, width)
    rows = boxes[:, 1::2].clamp(0, height)
    return torch.stack([columns[:, 0], rows[:, 0], columns[:, 1], rows[:, 1]], dim=1)


def _suppress(boxes: Tensor, num: int, iou_thr: float) -> Tensor:
    """Return the indices (k,) of the first ``num`` boxes that overlap none of those before; boxes come best first.

    It stops after ``num``: neither the overlaps of all pairs nor the rest of the boxes are looked at.
    """
    areas = _areas(boxes)
    left = torch.arange(len(boxes), device=boxes.device)
    kept = []
    while len(left) and len(kept) < num:
        best, left = left[:1], left[1:]
        kept.append(best)
        shared = _shared(boxes[best], boxes[left])
        left = left[shared <= iou_thr * (areas[best] + areas[left] - shared)]
    return torch.cat(kept) if kept else left


def check_selection(
    num: int = 10,
    iou_thr: float = 0.3,
    pre_nms: int = 3000,
    min_size: float = 10,
    score_mode: str = 'classwise',
    min_score: float = 0.0,
    gamma: float = 0.0,
) -> None:
    """Raise :class:`ConfigError` unless the options of :func:`select_general_instances` are in their ranges."""
    check_number(_OWNER, 'num', num, low=1, integer=True)
    check_number(_OWNER, 'iou_thr', iou_thr, low=0, high=1)
    check_number(_OWNER, 'pre_nms', pre_nms, low=1, integer=True)
    check_number(_OWNER, 'min_size', min_size, low=0)
    check_choice(_OWNER, 'score_mode', score_mode, SCORE_MODES)
    check_number(_OWNER, 'min_score', min_score, low=0, high=1)
    check_number(_OWNER, 'gamma', gamma, low=0)


def _check_tensors(
    scores_t: Tensor, scores_s: Tensor, boxes_t: Tensor, boxes_s: Tensor, img_shape: tuple[int, int]
) -> None:
    if scores_t.dim() != 2 or scores_t.shape != scores_s.shape or scores_t.shape[1] == 0:
        raise ConfigError(
            f'{_OWNER}: scores_t and scores_s must be (R, C) of the same slots and classes, got '
            f'{tuple(scores_t.shape)} and {tuple(scores_s.shape)}'
        )
    for name, boxes in (('boxes_t', boxes_t), ('boxes_s', boxes_s)):
        if tuple(boxes.shape) != (len(scores_t), 4):
            raise ConfigError(
                f'{_OWNER}: {name} must be ({len(scores_t)}, 4), one box per slot, got {tuple(boxes.shape)}'
            )
    if len(img_shape) < 2 or min(img_shape[:2]) < 1:
        raise ConfigError(f'{_OWNER}: img_shape must be (height, width), got {tuple(img_shape)}')
