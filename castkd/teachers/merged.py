"""Several instance segmentors as one teacher: their predictions matched by masks and merged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import torch
from mmdet.structures.mask import mask2bbox
from mmengine.structures import InstanceData
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from castkd.checks import check_choice, check_file, check_number
from castkd.errors import ConfigError, DataError, near_names
from castkd.registry import MODELS, build_model
from castkd.structures import Pass, PassResult
from castkd.teachers.base import Teacher

AGREEMENT = 'agreement'


@MODELS.register_module()
class MergedTeacher(Teacher):
    """Teachers whose predicted instances are merged, weighted by validation AP or, image by image, by agreement.

    See :func:`merge_instances` for the rule, and :func:`agreement_weights`. Every member keeps its own classes, mapping
    and input conversion; what is merged is in the student's labels and pixels.

    Args:
        members: Teacher or teacher config per name, at least two; all predict masks.
        weights: Per member its weight, above 0: a number, such as its AP, or the file of a stage's metrics
            (``{adapt.metrics}`` in a recipe), of which ``metric`` is read. Or ``agreement`` for three members or more:
            in every image a member weighs as much as the others agree with it.
        iou_thr: Masks of one class are one instance when their IoU is above it, in [0, 1].
        metric: Name of the metric in those files.
        student: The distiller's student.

    Raises:
        ConfigError: When members and weights do not fit, or a number is out of range.
        DataError: When a file of metrics is missing, or lacks the metric.
    """

    def __init__(
        self,
        members: Mapping[str, dict | Teacher],
        weights: Mapping[str, float | str] | str,
        *,
        iou_thr: float = 0.5,
        metric: str = 'coco/segm_mAP',
        student: nn.Module | None = None,
    ) -> None:
        check_number('MergedTeacher', 'iou_thr', iou_thr, low=0, high=1)
        if isinstance(weights, str):
            check_agreement('MergedTeacher', weights, len(members))
            weights = dict.fromkeys(members, AGREEMENT)
        elif len(members) < 2 or set(members) != set(weights):
            raise ConfigError(
                f'MergedTeacher: weights must be those of two members or more, got members {sorted(members)} and '
                f'weights {sorted(weights)}'
            )
        self.members = {
            name: build_model(member, student=student) for name, member in members.items()
        }
        for name, member in self.members.items():
            member.name = name
        self.by_agreement = AGREEMENT in weights.values()
        self.weights = (
            weights
            if self.by_agreement
            else {name: _weight(name, weights[name], metric) for name in self.members}
        )
        self.iou_thr = iou_thr
        super().__init__(nn.ModuleDict({name: item.model for name, item in self.members.items()}))

    @property
    def moves(self) -> bool:
        """Tell whether the weights of any member change during training."""
        return any(member.moves for member in self.members.values())

    def connect(self, student: nn.Module, student_classes: tuple[str, ...] | None) -> None:
        """Prepare every member for one student.

        Raises:
            ConfigError: When the class sets differ and no mapping covers it.
        """
        for member in self.members.values():
            member.connect(student, student_classes)

    def run(self, request: Pass, inputs: Tensor, samples: list) -> PassResult:
        """Predict with every member and merge, see :class:`~castkd.teachers.base.Teacher`.

        Raises:
            ConfigError: When something else than predictions is asked for, or a member predicts no masks.
        """
        if request.kind != 'predict' or request.taps:
            raise ConfigError(
                f'teacher {self.name!r} merges predictions and has nothing else to give ({request.kind}, '
                f'{list(request.taps)}); ask one of its members, as a teacher of its own'
            )
        found = {name: member.predict(inputs, samples) for name, member in self.members.items()}
        merged = []
        for index, sample in enumerate(samples):
            height, width = sample.metainfo['img_shape'][:2]
            instances = []
            for name, predictions in found.items():
                own = predictions[index].pred_instances
                if 'masks' not in own:
                    raise ConfigError(
                        f'teacher {self.name!r}: member {name!r} predicts no masks, by which instances are matched'
                    )
                own.masks = own.masks[:, :height, :width]
                instances.append(own)
            result = sample.clone()
            weights = (
                agreement_weights(instances, self.iou_thr)
                if self.by_agreement
                else list(self.weights.values())
            )
            result.pred_instances = merge_instances(instances, weights, self.iou_thr)
            merged.append(result)
        return PassResult(predictions=merged)

    def load(self) -> None:
        """Load the weights of every member."""
        for member in self.members.values():
            member.load()
        self.freeze()

    def before_step(self, student: nn.Module, step: int) -> None:
        """Let members that move follow the student."""
        for member in self.members.values():
            member.before_step(student, step)

    def state(self) -> dict[str, Tensor]:
        """Return what belongs into the checkpoint: the weights of members that move."""
        return {
            f'{name}.{key}': value
            for name, member in self.members.items()
            for key, value in member.state().items()
        }

    def provenance(self) -> dict:
        """Return weight and origin of every member."""
        return {
            name: {'weight': self.weights[name], **member.provenance()}
            for name, member in self.members.items()
        }


def merge_instances(
    found: Sequence[InstanceData], weights: Sequence[float], iou_thr: float = 0.5
) -> InstanceData:
    """Merge what several teachers found in one image.

    Instances are taken by weight times score, best first. One that is not yet part of a group starts one, and from
    every other teacher the instance of the same class joins whose mask overlaps its own most, if the IoU is above
    ``iou_thr``. A group becomes an instance: a pixel belongs to it when members with more than half of the group's
    weight times score say so; its score is the sum of weight times score over the members, divided by the weights of
    *all* teachers, so that what one alone has found counts for as much as that one does, and is left out when that is
    nothing. (Weighted boxes fusion,
    Solovyev et al., Image and Vision Computing 2021, with masks.)

    Args:
        found: Per teacher ``labels`` (n,), ``scores`` (n,), ``masks`` (n, H, W) bool, of one size, and optionally
            ``mask_scores`` (n,), of which the weighted mean is kept.
        weights: Per teacher its weight, above 0.
        iou_thr: See above.

    Returns:
        ``labels``, ``scores``, ``mask_scores``, ``masks`` and ``bboxes``, best score first.
    """
    labels = torch.cat([item.labels for item in found])
    scores = torch.cat([item.scores.float() for item in found])
    mask_scores = torch.cat([item.get('mask_scores', item.scores).float() for item in found])
    masks = torch.cat([item.masks.bool() for item in found])
    teacher = torch.cat([torch.full_like(item.labels, i) for i, item in enumerate(found)])
    votes = scores * torch.tensor(list(weights), dtype=scores.dtype).to(scores.device)[teacher]
    free = torch.ones_like(labels, dtype=torch.bool)
    groups = []
    for leader in votes.argsort(descending=True, stable=True).tolist():
        # Without any vote no pixel would belong to it.
        if free[leader] and votes[leader] > 0:
            group = _group(leader, labels, masks, teacher, free, iou_thr)
            free[group] = False
            groups.append(group)
    merged = InstanceData()
    merged.labels = labels[[group[0] for group in groups]]
    merged.scores = scores.new_tensor([float(votes[group].sum()) for group in groups])
    merged.scores = merged.scores / sum(weights)
    shares = [votes[group] / votes[group].sum().clamp_min(1e-12) for group in groups]
    merged.mask_scores = scores.new_tensor(
        [float(share @ mask_scores[group]) for share, group in zip(shares, groups, strict=True)]
    )
    merged.masks = masks.new_zeros((len(groups), *masks.shape[1:]))
    for mask, share, group in zip(merged.masks, shares, groups, strict=True):
        mask.copy_(torch.einsum('n,nhw->hw', share, masks[group].to(share.dtype)) > 0.5)
    merged.bboxes = mask2bbox(merged.masks).to(scores.dtype)
    return merged[merged.scores.argsort(descending=True, stable=True)]


def agreement_weights(found: Sequence[InstanceData], iou_thr: float = 0.5) -> list[float]:
    """Return how much each teacher's instances in one image agree with those of the others.

    Instances of one class of two teachers are paired one to one where their IoU is above ``iou_thr``, so that the sum
    of IoUs is largest. With scores s, the two agree by the sum of IoU * (s + s') over the pairs, divided by the sum of
    all scores of both: the panoptic quality of one against the other (Kirillov et al., CVPR 2019), with scores for
    counts. It is 1 when neither found anything. A teacher's weight is the mean over the others; should nobody agree
    with anybody, all have 1.

    Args:
        found: As of :func:`merge_instances`.
        iou_thr: See above.

    Returns:
        Per teacher a weight in [0, 1].
    """
    sums = [0.0] * len(found)
    for first, second in combinations(range(len(found)), 2):
        agreement = _agreement(found[first], found[second], iou_thr)
        sums[first] += agreement
        sums[second] += agreement
    return [value / (len(found) - 1) for value in sums] if any(sums) else [1.0] * len(found)


def check_agreement(owner: str, weights: str, teachers: int) -> None:
    """Check that teachers can be weighted by agreement.

    Raises:
        ConfigError: When ``weights`` is another word, or there are too few: of two, each agrees with the other equally.
    """
    check_choice(owner, 'weights', weights, (AGREEMENT,))
    if teachers < 3:
        raise ConfigError(
            f'{owner}: weights={AGREEMENT!r} needs three teachers or more, got {teachers}; two agree with each other '
            'equally, give weights'
        )


def _agreement(first: InstanceData, second: InstanceData, iou_thr: float) -> float:
    total = float(first.scores.sum() + second.scores.sum())
    if not total:
        return 1.0
    ious = torch.zeros(len(first), len(second))
    for row, (mask, label) in enumerate(zip(first.masks, first.labels, strict=True)):
        same = (second.labels == label).nonzero()[:, 0]
        ious[row, same.cpu()] = _ious(mask, second.masks[same]).cpu().float()
    ious[ious <= iou_thr] = 0
    rows, columns = (torch.from_numpy(item) for item in linear_sum_assignment(ious, maximize=True))
    scores = first.scores.cpu().float()[rows] + second.scores.cpu().float()[columns]
    return float((ious[rows, columns] * scores).sum()) / total


def _ious(own: Tensor, masks: Tensor) -> Tensor:
    """Return the IoUs (n,) of one mask (H, W) with masks (n, H, W), all bool."""
    both = (masks & own).flatten(1).sum(1)
    return both / (masks.flatten(1).sum(1) + own.sum() - both).clamp_min(1)


def _group(
    leader: int, labels: Tensor, masks: Tensor, teacher: Tensor, free: Tensor, iou_thr: float
) -> list[int]:
    """Return the indices of a group, its leader first."""
    others = (free & (labels == labels[leader]) & (teacher != teacher[leader])).nonzero()[:, 0]
    group = [leader]
    if not len(others):
        return group
    ious = _ious(masks[leader], masks[others])
    for index in teacher[others].unique().tolist():
        candidates = (teacher[others] == index).nonzero()[:, 0]
        best = candidates[ious[candidates].argmax()]
        if ious[best] > iou_thr:
            group.append(int(others[best]))
    return group


def _weight(name: str, given: float | str, metric: str) -> float:
    """Return a member's weight, from a number or a file of metrics."""
    if isinstance(given, (str, Path)):
        path = check_file('MergedTeacher', f'metrics of {name!r}', given)
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise DataError(f'MergedTeacher: {str(path)!r} is no JSON file of metrics') from error
        if metric not in content:
            raise DataError(
                f'MergedTeacher: {str(path)!r} has no metric {metric!r}; {near_names(metric, content)}'
            )
        given = content[metric]
    check_number('MergedTeacher', f'weight of {name!r}', given, low=0, low_open=True)
    return float(given)
