"""Labelled validation images, to judge teachers on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor

from castkd.errors import ConfigError
from castkd.evaluation import MapOverlap, instance_ap
from castkd.hooks.common import distiller_of
from castkd.losses.maps import resize_labels
from castkd.semantic import IGNORE

if TYPE_CHECKING:
    from mmengine.runner import Runner


@dataclass
class LabelledImage:
    """One validation image as a teacher gets it.

    Attributes:
        inputs: The image normalised for the student, (1, 3, H, W).
        samples: Its data sample in a list, with an identity geometry record.
        truth: In network-input pixels without padding: ``labels`` (n,), ``masks`` (BitmapMasks or PolygonMasks) and the
            boxes around these, ``bboxes`` (n, 4), or a map (h, w) of class indices.
    """

    inputs: Tensor
    samples: list
    truth: InstanceData | np.ndarray


def labelled_images(runner: Runner, num_images: int) -> Iterator[LabelledImage]:
    """Yield the first ``num_images`` images of the validation set with their labels.

    Raises:
        ConfigError: When there is no validation set, or its pipeline does not load masks or label maps.
    """
    if runner.val_loop is None:
        raise ConfigError(
            'val_dataloader: there is none, so no labelled image to judge a teacher on'
        )
    dataset = runner.val_dataloader.dataset
    preprocess = distiller_of(runner).data_preprocessor
    for index in range(min(num_images, len(dataset))):
        batch = preprocess(pseudo_collate([dataset[index]]), False)
        sample = batch['data_samples'][0]
        if 'masks' not in sample.get('gt_instances', ()) and 'gt_sem_seg' not in sample:
            raise ConfigError(
                'val_dataloader.dataset.pipeline: it loads no masks and no label maps to judge a teacher on; add '
                "dict(type='LoadAnnotations'), for instances with with_bbox=True and with_mask=True, before the "
                'step that packs'
            )
        sample.set_metainfo({'homography_matrix': np.eye(3, dtype=np.float32)})
        yield LabelledImage(batch['inputs'], [sample], _truth(sample))


def teacher_score(teacher: Any, images: Sequence[LabelledImage]) -> tuple[str, float]:  # noqa: ANN401
    """Return what a teacher (a castkd.teachers.Teacher) is judged by, and its score in [0, 1].

    Returns:
        ``mask AP``, ``box AP`` of a teacher that predicts boxes alone, or ``mIoU`` where the truth are label maps; nan
        when the images have no object and no class.

    Raises:
        ConfigError: When the teacher predicts no instances, or no maps.
    """
    samples = [teacher.predict(image.inputs, image.samples)[0] for image in images]
    if any(isinstance(image.truth, np.ndarray) for image in images):
        return 'mIoU', _map_score(teacher, images, samples)
    found = [sample.get('pred_instances', ()) for sample in samples]
    boxes = not all('masks' in instances for instances in found)
    if boxes and not all('bboxes' in instances for instances in found):
        raise ConfigError(
            f'teacher {teacher.name!r} predicts neither masks nor boxes, so it has no AP'
        )
    predictions = [
        instances if boxes else _cropped(instances, image.samples[0])
        for image, instances in zip(images, found, strict=True)
    ]
    truths = [image.truth for image in images]
    labels = [int(label) for item in (*truths, *predictions) for label in item.labels]
    score = instance_ap(predictions, truths, max(labels, default=0) + 1, boxes=boxes)['AP']
    return 'box AP' if boxes else 'mask AP', score


def _map_score(teacher: Any, images: Sequence[LabelledImage], samples: list) -> float:  # noqa: ANN401
    # As many as an index map can have.
    overlap = MapOverlap(IGNORE)
    for image, sample in zip(images, samples, strict=True):
        if 'pred_sem_seg' not in sample:
            raise ConfigError(f'teacher {teacher.name!r} predicts no label maps, so it has no mIoU')
        height, width = image.truth.shape
        predicted = sample.pred_sem_seg.data[0, :height, :width].cpu().numpy()
        overlap.update(predicted, image.truth)
    score = overlap.compute()['mIoU']
    return math.nan if score is None else score


def _truth(sample: Any) -> InstanceData | np.ndarray:  # noqa: ANN401 - data samples
    """Return labels in network-input pixels; a pipeline may load them after it resized the image."""
    shape = tuple(sample.metainfo['img_shape'][:2])
    if 'gt_sem_seg' in sample:
        return resize_labels(sample.gt_sem_seg.data.cpu(), shape)[0].numpy().astype(np.uint8)
    masks = sample.gt_instances.masks
    if (masks.height, masks.width) != shape:
        masks = masks.resize(shape)
    # Boxes of the annotations may be those of the image before it was resized, and nothing would tell.
    boxes = masks.get_bboxes('hbox').tensor
    return InstanceData(labels=sample.gt_instances.labels, masks=masks, bboxes=boxes)


def _cropped(instances: InstanceData, sample: Any) -> InstanceData:  # noqa: ANN401 - data samples
    """Return predictions without the padding of the batch."""
    height, width = sample.metainfo['img_shape'][:2]
    return InstanceData(
        labels=instances.labels,
        scores=instances.scores,
        masks=instances.masks[:, :height, :width],
    )
