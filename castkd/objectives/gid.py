"""GID: distil where teacher and student disagree, whether or not an object is labelled there.

Dai et al., "General Instance Distillation for Object Detection", CVPR 2021 (arXiv 2103.02340).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError, near_names
from castkd.heads.regions import pool_regions, rois_of
from castkd.losses import GeneralInstances, InstanceFeatureLoss, RelationLoss
from castkd.losses.gid_selection import check_selection, share_on_objects
from castkd.objectives.base import Objective
from castkd.objectives.distillation import check_same_pixels
from castkd.objectives.gid_response import DetectorPair, Response
from castkd.registry import MODELS, build_model
from castkd.schedules import Schedule, build_schedule
from castkd.structures import STUDENT, Marks, Pass, Step, source_view
from castkd.teachers import Teacher

_OWNER = 'GeneralInstanceDistillation'
_SELECTION = tuple(inspect.signature(check_selection).parameters)
# Share of a box on an object above which it shows (part of) the object, and below which it shows none.
_ON_OBJECT, _ON_BACKGROUND = 0.7, 0.3
_COLOURS = ((30, 144, 255), (255, 127, 14))


@MODELS.register_module()
class GeneralInstanceDistillation(Objective):
    """Distil features, relations and responses of the boxes on which student and teacher disagree most.

    Per image, up to K such boxes (general instances) are selected anew in every step, see
    :func:`castkd.losses.select_general_instances`. Their features are pooled from both pyramids and compared, one by
    one and in their distances. The response compares the predictions in those slots that the student's own assignment
    of labels would give to the boxes, were they objects. Ground truth plays no part, so unlabelled images are one more
    view.

    Of a two-stage detector the proposals' objectness and boxes select the instances; the response is that of the
    proposal head in these slots, that of the RoI head for the selected boxes, and, with a mask head, that of their
    masks (an extension of the paper). Both networks need the same anchors, strides, classes and box coder, in pixels of
    the student's images: a teacher with ``input_scale=2`` sees them at twice their size, and has levels of twice the
    stride and anchors of twice the size (another extension).

    Args:
        teacher: Name of the teacher.
        adapter: Config of what maps the student's pyramid to the teacher's, one for all levels, such as
            ``castkd.ConvConnector``; None compares it as it is.
        views: Labelled views. A pair (student's view, teacher's view) lets the teacher see other colours of the same
            pixels.
        unlabeled_views: Unlabelled views, or pairs.
        unlabeled_weight: Factor of the losses of unlabelled views: a number, or a schedule over training steps.
        selection: Options of :func:`castkd.losses.select_general_instances` other than its defaults: ``num``,
            ``iou_thr``, ``pre_nms``, ``min_size``, ``score_mode``, ``min_score``, ``gamma``.
        feature_weight: lambda_1. A part whose weight is 0 costs nothing.
        relation_weight: lambda_2.
        class_weight: alpha, of class scores in the response.
        box_weight: beta, of boxes in the response.
        mask_weight: Factor of the mask response; without a mask head there is none.
        proposals: Whether the response covers the proposal head of a two-stage detector.
        regions: Whether the response covers the classes and boxes of its RoI head.
        centerness: Whether it covers the centre-ness of FCOS and ATSS, with ``class_weight``.
        feature_loss: Config of the loss of features; None for ``castkd.InstanceFeatureLoss``.
        relation_loss: Config of the loss of distances; None for ``castkd.RelationLoss``.
        feature: Tap of the pyramid in both networks.
        weight: See :class:`~castkd.objectives.base.Objective`.

    Attributes:
        last_instances: General instances of the last step, per view of the student, one entry per image.

    Raises:
        ConfigError: When an option is wrong, or (once the networks are known) they cannot be compared.
    """

    def __init__(
        self,
        teacher: str,
        adapter: dict | nn.Module | None = None,
        views: Sequence[str | tuple[str, str]] = ('sup',),
        unlabeled_views: Sequence[str | tuple[str, str]] = (),
        unlabeled_weight: float | dict = 1.0,
        selection: Mapping | None = None,
        feature_weight: float = 5e-4,
        relation_weight: float = 40.0,
        class_weight: float = 0.1,
        box_weight: float = 1.0,
        mask_weight: float = 1.0,
        proposals: bool = True,
        regions: bool = True,
        centerness: bool = False,
        feature_loss: dict | nn.Module | None = None,
        relation_loss: dict | nn.Module | None = None,
        feature: str = 'neck',
        weight: float | dict = 1.0,
    ) -> None:
        super().__init__(weight)
        self.teacher = teacher
        self.labeled_views = [_pair_of(view) for view in views]
        self.unlabeled_views = [_pair_of(view) for view in unlabeled_views]
        self.unlabeled_weight = build_schedule(unlabeled_weight, f'{_OWNER}.unlabeled_weight')
        self.selection = dict(selection or {})
        self.feature_weight = feature_weight
        self.relation_weight = relation_weight
        self.response = Response(
            class_weight, box_weight, mask_weight, proposals, regions, centerness
        )
        self.feature_loss = build_model(feature_loss) or InstanceFeatureLoss()
        self.relation_loss = build_model(relation_loss) or RelationLoss()
        self.feature = feature
        self.last_instances: dict[str, list[GeneralInstances]] = {}
        self._pair: DetectorPair | None = None
        self._check()
        # Parameters that no loss reads would keep other processes waiting.
        self.adapter = build_model(adapter) if adapter and self._compares_features else None

    def _check(self) -> None:
        students = [view for view, _ in self.labeled_views + self.unlabeled_views]
        if not students or len(set(students)) < len(students):
            raise ConfigError(
                f'{_OWNER}: views and unlabeled_views must name each view of the student once, got {students}'
            )
        for owner, name in (
            (self, 'feature_weight'),
            (self, 'relation_weight'),
            (self.response, 'class_weight'),
            (self.response, 'box_weight'),
            (self.response, 'mask_weight'),
        ):
            check_number(_OWNER, name, getattr(owner, name), low=0)
        for name in self.selection:
            if name not in _SELECTION:
                hint = near_names(str(name), _SELECTION)
                raise ConfigError(f'{_OWNER}: selection has no option {name!r}; {hint}')
        check_selection(**self.selection)

    @property
    def _compares_features(self) -> bool:
        return bool(self.feature_weight or self.relation_weight)

    def bind(self, trained: Mapping[str, nn.Module], teachers: Mapping[str, Teacher]) -> None:
        """Check that student and teacher predict the same things, and keep how their predictions are read.

        Raises:
            ConfigError: When there is no such teacher, a head cannot be read, or the networks differ in what their
                predictions stand for.
        """
        self._pair = DetectorPair.of(
            trained, teachers, self.teacher, with_regions=self.response.asks_regions
        )
        self.response.check(self._pair)

    def passes(self) -> list[Pass]:
        """Return one run of both networks per view, up to their dense heads."""
        regions = self.response.uses_regions(self._pair) or self.response.uses_masks(self._pair)
        maps = (self.feature,) if self._compares_features or regions else ()
        if not maps and not self.response.uses_slots(self._pair):
            return []
        taps = (*maps, self._pair.head)
        return [
            request
            for view, teacher_view, weight in self._weighted_views()
            for request in (
                Pass(self.teacher, teacher_view, 'dense', taps, grad=False, weight=weight),
                Pass(STUDENT, view, 'dense', taps, weight=weight),
            )
        ]

    def _weighted_views(self) -> list[tuple[str, str, Schedule | None]]:
        """Return the pairs of views with the factor of their losses; None is 1."""
        return [
            *((*pair, None) for pair in self.labeled_views),
            *((*pair, self.unlabeled_weight) for pair in self.unlabeled_views),
        ]

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return the losses of all parts, weighted, as the mean over all images; numbers go to the statistics.

        They are ``loss_feature``, ``loss_relation``, ``loss_cls``, ``loss_centerness`` and ``loss_reg`` (dense head),
        ``loss_roi_cls`` and ``loss_roi_reg`` (RoI head), and ``loss_mask``. An image without any instance adds nothing
        to them.
        """
        self.last_instances = {}
        if not self.passes():
            return {}
        total: dict[str, Tensor] = {}
        images = 0
        for view, teacher_view, schedule in self._weighted_views():
            weight = 1.0 if schedule is None else schedule(step.index)
            count = len(step.samples[source_view(view)])
            images += count
            if not weight:
                continue
            for name, value in self._compare(step, view, teacher_view).items():
                factor = weight if name.startswith('loss') else 1.0
                total[name] = total.get(name, 0.0) + count * factor * value
        means = {name: value / images for name, value in total.items()}
        if 'class_excess' in means:
            step.statistics['gid.class_excess'] = means.pop('class_excess')
        step.statistics.update({**self._statistics(), **self._truth(step)})
        return means

    def marks(self) -> list[Marks]:
        """Return the general instances of the last step."""
        return [
            Marks(view, [_as_marks(item) for item in found], ('student', 'teacher'), _COLOURS)
            for view, found in self.last_instances.items()
        ]

    def _compare(self, step: Step, view: str, teacher_view: str) -> dict[str, Tensor]:
        check_same_pixels(step, view, teacher_view)
        own, other = step[STUDENT, view].taps, step[self.teacher, teacher_view].taps
        samples = step.samples[source_view(view)]
        student = self._pair.student.read(own[self._pair.head])
        teacher = self._pair.teacher.read(other[self._pair.head])
        found = self._pair.select(student, teacher, samples, self.selection)
        self.last_instances[view] = found
        rois = rois_of([instances.boxes for instances in found])
        losses: dict[str, Tensor] = {}
        if self._compares_features:
            losses.update(self._features(own[self.feature], other[self.feature], rois))
        if self.response.uses_slots(self._pair):
            losses.update(self.response.of_slots(self._pair, student, teacher, found, samples))
        if self.response.uses_regions(self._pair) or self.response.uses_masks(self._pair):
            maps = own[self.feature], other[self.feature]
            losses.update(self.response.of_regions(self._pair, *maps, rois))
        return losses

    def _features(
        self, own: Sequence[Tensor], other: Sequence[Tensor], rois: Tensor
    ) -> dict[str, Tensor]:
        strides = self._pair.strides
        levels = own[: len(strides)]
        if self.adapter is not None:
            levels = [self.adapter(level) for level in levels]
        if levels[0].shape[1] != other[0].shape[1]:
            raise ConfigError(
                f'{_OWNER}: the pyramid of teacher {self.teacher!r} has {other[0].shape[1]} channels and the '
                f"student's, behind the adapter, {levels[0].shape[1]}; set adapter, such as castkd.ConvConnector"
            )
        student = pool_regions(levels, rois, strides)
        teacher = pool_regions(other, rois, strides)
        losses = {}
        if self.feature_weight:
            losses['loss_feature'] = self.feature_weight * self.feature_loss(student, teacher)
        if self.relation_weight:
            value = self.relation_loss(student, teacher, image_index=rois[:, 0].long())
            losses['loss_relation'] = self.relation_weight * value
        return losses

    def _statistics(self) -> dict[str, Tensor | float]:
        """Return mean score, mean number per image, and the share of boxes that are the teacher's."""
        found = [instances for view in self.last_instances.values() for instances in view]
        if not found:
            return {}
        count = sum(map(len, found))
        scores = sum(instances.scores.sum() for instances in found)
        teachers = sum(instances.from_teacher.sum() for instances in found)
        return {
            'gid.score': scores / max(1, count),
            'gid.instances': count / len(found),
            'gid.teacher_share': teachers / max(1, count),
        }

    def _truth(self, step: Step) -> dict[str, Tensor]:
        """Return how many instances of labelled views show (part of) an object, and how many show background."""
        shares = [
            share_on_objects(instances.boxes, sample.gt_instances.bboxes)
            for view, _ in self.labeled_views
            for instances, sample in zip(
                self.last_instances[view], step.samples[source_view(view)], strict=True
            )
            if 'bboxes' in sample.get('gt_instances', ())
        ]
        if not shares:
            return {}
        share = torch.cat(shares)
        count = max(1, len(share))
        return {
            'gid.object_share': (share >= _ON_OBJECT).sum() / count,
            'gid.background_share': (share < _ON_BACKGROUND).sum() / count,
        }


def _as_marks(instances: GeneralInstances) -> InstanceData:
    return InstanceData(
        bboxes=instances.boxes, scores=instances.scores, labels=instances.from_teacher.long()
    )


def _pair_of(view: str | Sequence[str]) -> tuple[str, str]:
    return (view, view) if isinstance(view, str) else tuple(view)
