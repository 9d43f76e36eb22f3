"""CAST: the instance-aware pixel-wise contrastive loss of a training step.

Taghavi et al., "CAST: Contrastive Adaptation and Distillation for Semi-Supervised Instance
Segmentation" (arXiv 2505.21904).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.heads.queries import Queries
from castkd.objectives.base import Objective
from castkd.registry import MODELS, build_model
from castkd.structures import STUDENT, Pass, Step


@MODELS.register_module()
class InstanceContrast(Objective):
    """Contrast pixels of a weak view with the same pixels of a strong view and with pixels of other instances.

    The weak view runs with its head (in the same run as its set loss), the strong view through the
    encoder only and without gradient. One projector serves both; the strong side is a target. The
    student's own queries say which pixels belong together; they get no gradient from here.

    Args:
        projector: Config of the projection head.
        loss: Config of the contrastive loss.
        views: Pairs (weak view, strong view) with the same pixel grid; the pool of negatives is all
            weak views together.
        feature: Tap of the encoder feature that is projected.
        queries: Config of what reads the student's queries from its head (see :mod:`castkd.heads.queries`).
        weight: lambda_pxl, see :class:`~castkd.objectives.base.Objective`.
    """

    def __init__(
        self,
        projector: dict | nn.Module,
        loss: dict | nn.Module,
        views: Sequence[tuple[str, str]] = (
            ('sup', 'sup_strong'),
            ('unsup_teacher', 'unsup_student'),
        ),
        feature: str = 'backbone[3]',
        queries: dict | Queries | None = None,
        weight: float | dict = 0.1,
    ) -> None:
        super().__init__(weight)
        self.projector = build_model(projector)
        self.loss = build_model(loss)
        self.views = [tuple(pair) for pair in views]
        self.feature = feature
        self.queries = build_model(queries or {'type': 'castkd.SetPredictionQueries'})

    def passes(self) -> list[Pass]:
        """Return head runs on weak views and encoder runs on strong views."""
        weak_taps = (self.feature, *self.queries.taps)
        requests = []
        for weak, strong in self.views:
            requests.append(Pass(STUDENT, weak, 'forward', weak_taps))
            requests.append(Pass(STUDENT, strong, 'encode', (self.feature,), grad=False))
        return requests

    def forward(self, step: Step) -> dict[str, Tensor]:
        """Return ``loss_pixel``; put separation and false-negative rate into the step's statistics."""
        weak = [step[STUDENT, view].taps for view, _ in self.views]
        strong = [step[STUDENT, view].taps for _, view in self.views]
        anchor = self.projector(_join([taps[self.feature] for taps in weak]))
        with torch.no_grad():
            positive = self.projector(_join([taps[self.feature] for taps in strong]))
        size = anchor.shape[-2:]
        samples = [
            sample
            for view, _ in self.views
            for sample in step.targets.get(view, step.samples[view])
        ]
        queries = [
            self.queries({name: taps[name].detach() for name in self.queries.taps}) for taps in weak
        ]
        value = self.loss(
            anchor,
            positive,
            _join([masks for masks, _ in queries]),
            _join([classes for _, classes in queries]),
            valid=valid_pixels(samples, size).to(anchor.device),
            instance_ids=instance_ids(samples, size).to(anchor.device),
            step=step.index,
        )
        step.statistics.update(
            {f'cast.{name}': number for name, number in self.loss.last_statistics.items()}
        )
        return {'loss_pixel': value}


def _join(tensors: list[Tensor]) -> Tensor:
    """Concatenate batches (B, C, ...); smaller maps are padded with zeros on the right and bottom."""
    if tensors[0].dim() < 4:
        return torch.cat(tensors)
    height = max(tensor.shape[-2] for tensor in tensors)
    width = max(tensor.shape[-1] for tensor in tensors)
    return torch.cat(
        [
            F.pad(tensor, (0, width - tensor.shape[-1], 0, height - tensor.shape[-2]))
            for tensor in tensors
        ]
    )


def valid_pixels(samples: list, size: tuple[int, int]) -> Tensor:
    """Say which feature pixels lie inside their image and not in its padding.

    Args:
        samples: Data samples with ``img_shape`` and ``batch_input_shape``.
        size: (h, w) of the feature map of the largest batch.

    Returns:
        (B, h, w) bool; a pixel counts when its centre lies in the image.
    """
    padded_height, padded_width = _largest_shape(samples)
    rows = (torch.arange(size[0]) + 0.5) * padded_height / size[0]
    columns = (torch.arange(size[1]) + 0.5) * padded_width / size[1]
    masks = []
    for sample in samples:
        height, width = sample.metainfo['img_shape'][:2]
        masks.append((rows < height)[:, None] & (columns < width)[None])
    return torch.stack(masks)


def instance_ids(samples: list, size: tuple[int, int]) -> Tensor:
    """Return the target instance of every feature pixel.

    Args:
        samples: Data samples; ``gt_instances.masks`` (BitmapMasks) are read where present.
        size: (h, w) of the feature map.

    Returns:
        (B, h, w) long: index of the instance in its image, -1 where there is none. Where instances overlap the smaller
        one is taken.
    """
    shape = _largest_shape(samples)
    return torch.stack([_ids_of(sample, shape, size) for sample in samples])


def _ids_of(sample: object, shape: tuple[int, int], size: tuple[int, int]) -> Tensor:
    ids = torch.full(size, -1, dtype=torch.long)
    instances = sample.get('gt_instances')
    if instances is None or len(instances) == 0 or 'masks' not in instances:
        return ids
    masks = instances.masks.masks
    rows = _centres(size[0], shape[0], masks.shape[1])
    columns = _centres(size[1], shape[1], masks.shape[2])
    # Only the pixels that are asked for: the masks of a large image are many megabytes.
    small = torch.from_numpy(masks[:, rows[:, None], columns]).bool()
    areas = [np.count_nonzero(mask) for mask in masks]
    corner = ids[: len(rows), : len(columns)]
    for index in np.argsort(areas, kind='stable')[::-1].tolist():
        corner[small[index]] = index
    return ids


def _centres(cells: int, length: int, end: int) -> np.ndarray:
    """Return the pixels under the centres of ``cells`` equal parts of ``length`` pixels, those before ``end``."""
    centres = ((np.arange(cells) + 0.5) * length / cells).astype(int)
    return centres[centres < end]


def _largest_shape(samples: list) -> tuple[int, int]:
    shapes = [sample.metainfo['batch_input_shape'] for sample in samples]
    return max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
