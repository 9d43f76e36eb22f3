"""The generic objective: compare tensors of the student with the same or other tensors of a teacher."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_choice
from castkd.errors import ConfigError, DataError, in_one_line
from castkd.losses.maps import resize_maps
from castkd.objectives.base import Objective
from castkd.registry import MODELS, build_model
from castkd.structures import STUDENT, Pass, Step, source_view
from castkd.taps import Tap

_OWNER = 'Distillation'
_ENCODER = {'backbone', 'neck'}
RESIZE = ('larger', 'student', 'refuse')


@MODELS.register_module()
class Distillation(Objective):
    """Distil features or logits: taps of student and teacher, a connector, a loss, and views.

    Works with any network and any loss of two maps, of mmdet and mmseg alike. A tap that gives several maps (a pyramid)
    is compared map by map. Per view the losses of all maps are added; a loss that ``takes_lists`` gets all maps in one
    call. Several objectives on the same taps, views and teacher share its run.

    Args:
        teacher: Name of the teacher.
        taps: Tap of the student, or several, such as ``decode_head.conv_seg:input``; each gives a map (B, C, h, w) or a
            list of them.
        loss: Config of the loss, see :mod:`castkd.losses`.
        teacher_taps: Taps of the teacher, as many; None for the paths of the student.
        connector: Config of what maps the student's feature to the teacher's space, see :mod:`castkd.connectors`: one
            per tap, where None stands for nothing. A connector serves all maps of its tap.
        views: Views on which both run. A pair (student's view, teacher's view) lets the teacher see another view of the
            same pixels, such as one without colour jitter; views that are flipped or cropped otherwise are refused.
        labels: Whether the loss gets the label maps ``gt_sem_seg`` of the student's view: pseudo-labels where the step
            made some, else what the data samples hold.
        resize: What happens to maps of different grids: ``larger`` brings the smaller map to the larger one's grid
            (bilinear), ``student`` brings the teacher's map to the student's (average where it is larger, else
            bilinear), ``refuse`` raises.
        weight: See :class:`~castkd.objectives.base.Objective`.

    Raises:
        ConfigError: When the options do not fit each other, or (in a step) the maps do not, such as logits of another
            number of classes.
        DataError: When labels are wanted (in a step) and an image has none.
    """

    def __init__(
        self,
        teacher: str,
        taps: str | Sequence[str],
        loss: dict | nn.Module,
        teacher_taps: str | Sequence[str] | None = None,
        connector: dict | nn.Module | Sequence[dict | nn.Module | None] | None = None,
        views: Sequence[str | tuple[str, str]] = ('sup',),
        labels: bool = False,
        resize: str = 'larger',
        weight: float | dict = 1.0,
    ) -> None:
        super().__init__(weight)
        check_choice(_OWNER, 'resize', resize, RESIZE)
        self.teacher = teacher
        self.taps = _listed(taps)
        self.teacher_taps = self.taps if teacher_taps is None else _listed(teacher_taps)
        self.connectors = nn.ModuleList(
            nn.Identity() if item is None else build_model(item)
            for item in self._per_tap(connector)
        )
        self.loss = build_model(loss)
        self.views = [(view, view) if isinstance(view, str) else tuple(view) for view in views]
        self.labels = labels
        self.resize = resize
        self._check()

    def _per_tap(self, connector: dict | nn.Module | Sequence | None) -> Sequence:
        if connector is None:
            return [None] * len(self.taps)
        entries = connector if _is_list(connector) else [connector]
        if len(entries) != len(self.taps):
            raise ConfigError(
                f'{_OWNER}: connector has {len(entries)} entries for {len(self.taps)} taps; give a list with one '
                'per tap (None for a map that is compared as it is)'
            )
        return entries

    def _check(self) -> None:
        if len(self.taps) != len(self.teacher_taps):
            raise ConfigError(
                f'{_OWNER}: taps has {len(self.taps)} paths and teacher_taps {len(self.teacher_taps)}; name as many'
            )
        students = [view for view, _ in self.views]
        if not students or len(set(students)) < len(students):
            raise ConfigError(
                f'{_OWNER}: views must name each view of the student once, got {students}'
            )
        if self.labels and 'target' not in inspect.signature(self.loss.forward).parameters:
            raise ConfigError(
                f'{_OWNER}: labels=True, but {type(self.loss).__name__} compares maps without labels; remove it'
            )

    def passes(self) -> list[Pass]:
        """Return one run of student and teacher per view, no deeper than the taps need."""
        own, other = tuple(self.taps), tuple(self.teacher_taps)
        requests = []
        for view, teacher_view in self.views:
            requests.append(Pass(self.teacher, teacher_view, _depth(other), other, grad=False))
            requests.append(Pass(STUDENT, view, _depth(own), own))
        return requests

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_<view>`` per view of the student."""
        losses = {}
        for view, teacher_view in self.views:
            with in_one_line(f'{_OWNER} of teacher {self.teacher!r} on view {view!r}: '):
                losses[f'loss_{view}'] = self._compare(step, view, teacher_view)
        return losses

    def _compare(self, step: Step, view: str, teacher_view: str) -> Tensor | list[Tensor]:
        check_same_pixels(step, view, teacher_view)
        own, other = step[STUDENT, view].taps, step[self.teacher, teacher_view].taps
        pairs = []
        for path, teacher_path, connector in zip(
            self.taps, self.teacher_taps, self.connectors, strict=True
        ):
            maps, targets = _maps(path, own[path]), _maps(teacher_path, other[teacher_path])
            if len(maps) != len(targets):
                raise ConfigError(
                    f"tap {path!r} gives {len(maps)} maps and the teacher's {teacher_path!r} {len(targets)}; pick one "
                    'by index, or taps with as many'
                )
            pairs += [
                match_grids(connector(feature), target.detach(), self.resize)
                for feature, target in zip(maps, targets, strict=True)
            ]
        extra = {'target': label_maps(step, view)} if self.labels else {}
        if getattr(self.loss, 'takes_lists', False):
            return self.loss(*map(list, zip(*pairs, strict=True)), **extra)
        values = [self.loss(*pair, **extra) for pair in pairs]
        return values[0] if len(values) == 1 else values


def match_grids(student: Tensor, teacher: Tensor, resize: str) -> tuple[Tensor, Tensor]:
    """Bring two maps to one grid.

    Args:
        student: (B, C, h, w).
        teacher: (B, D, H, W).
        resize: See :class:`Distillation`. ``larger`` takes the larger height and the larger width.

    Returns:
        Both maps on one grid; a map that has it already is returned as it is.

    Raises:
        ConfigError: When the grids differ and ``resize`` is ``refuse``.
    """
    own, other = tuple(student.shape[2:]), tuple(teacher.shape[2:])
    if own == other:
        return student, teacher
    if resize == 'refuse':
        raise ConfigError(
            f'student has a map of {own} and the teacher of {other}; tap maps of one stride, or set resize'
        )
    if resize == 'larger':
        size = (max(own[0], other[0]), max(own[1], other[1]))
        return resize_maps(student, size), resize_maps(teacher, size)
    if other[0] >= own[0] and other[1] >= own[1]:
        return student, F.adaptive_avg_pool2d(teacher, own)
    return student, resize_maps(teacher, own)


def check_same_pixels(step: Step, view: str, teacher_view: str) -> None:
    """Check that two views show the same pixels, as far as their data samples record how they were made.

    Raises:
        ConfigError: When a homography or the number of images differs, or one of the two is made in the step.
    """
    sources = (source_view(view), source_view(teacher_view))
    if sources[0] == sources[1]:
        return
    own, other = (step.samples[source] for source in sources)
    # A view that is made in the step, such as a mix of images, has pixels of its own.
    same = len(own) == len(other) and step.carries.keys().isdisjoint(sources)
    for first, second in zip(own, other, strict=False):
        matrices = [
            sample.metainfo.get('homography_matrix', np.eye(3)) for sample in (first, second)
        ]
        same = same and np.allclose(*matrices, atol=1e-4)
    if not same:
        raise ConfigError(
            f"the teacher's view {teacher_view!r} shows other pixels (flipped, cropped, scaled or mixed otherwise); "
            'distil on one view, or on two that differ in colour alone'
        )


def label_maps(step: Step, view: str) -> Tensor:
    """Return the label maps (B, H, W) of a view, long: targets made in the step before those of the data.

    Raises:
        DataError: When an image has none, or the images of the batch have labels of several sizes.
    """
    samples = step.targets.get(view, step.samples[source_view(view)])
    maps = []
    for sample in samples:
        labels = sample.get('gt_sem_seg')
        if labels is None:
            raise DataError(
                f'image {sample.metainfo.get("img_path")!r} has no label map (gt_sem_seg); set labels=False, or views '
                'that have labels'
            )
        # mmseg calls the map data, mmdet sem_seg.
        maps.append(labels.get('sem_seg') if 'sem_seg' in labels else labels.data)
    sizes = sorted({tuple(value.shape[-2:]) for value in maps})
    if len(sizes) > 1:
        raise DataError(f'label maps of one batch have several sizes {sizes}; pad them like images')
    return torch.cat([value.reshape(1, *sizes[0]) for value in maps]).long()


def _maps(path: str, value: Any) -> list[Tensor]:  # noqa: ANN401 - a tap holds anything
    maps = list(value) if _is_list(value) else [value]
    wrong = next((item for item in maps if not torch.is_tensor(item) or item.dim() != 4), None)
    if not maps or wrong is not None:
        shown = tuple(wrong.shape) if torch.is_tensor(wrong) else type(wrong).__name__
        raise ConfigError(
            f'tap {path!r} must give a map (B, C, h, w) or a list of maps, got {shown}; pick one with an index'
        )
    return maps


def _depth(paths: tuple[str, ...]) -> str:
    modules = {Tap.parse(path).module.split('.')[0] for path in paths}
    return 'encode' if modules <= _ENCODER else 'forward'


def _is_list(value: Any) -> bool:  # noqa: ANN401 - anything
    return isinstance(value, list | tuple)


def _listed(paths: str | Sequence[str]) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths)
