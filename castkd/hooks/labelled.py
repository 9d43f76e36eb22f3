"""Labelled validation images, to judge teachers on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor

from castkd.errors import ConfigError
from castkd.evaluation import instance_ap
from castkd.hooks.common import distiller_of

if TYPE_CHECKING:
    from mmengine.runner import Runner


@dataclass
class LabelledImage:
    """One validation image as a teacher gets it.

    Attributes:
        inputs: The image normalised for the student, (1, 3, H, W).
        samples: Its data sample in a list, with an identity geometry record.
        truth: ``labels`` (n,) and ``masks`` (BitmapMasks or PolygonMasks) in network-input pixels without padding.
    """

    inputs: Tensor
    samples: list
    truth: InstanceData


def labelled_images(runner: Runner, num_images: int) -> Iterator[LabelledImage]:
    """Yield the first ``num_images`` images of the validation set with their labels.

    Raises:
        ConfigError: When there is no validation set, or its pipeline does not load masks.
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
        if 'masks' not in sample.get('gt_instances', ()):
            raise ConfigError(
                'val_dataloader.dataset.pipeline: it loads no masks to judge a teacher on; add '
                "dict(type='LoadAnnotations', with_bbox=True, with_mask=True) before PackDetInputs"
            )
        sample.set_metainfo({'homography_matrix': np.eye(3, dtype=np.float32)})
        yield LabelledImage(batch['inputs'], [sample], _truth(sample))


def teacher_ap(teacher: Any, images: Iterable[LabelledImage]) -> float:  # noqa: ANN401 - a castkd.teachers.Teacher
    """Return a teacher's mask AP in [0, 1], nan when the images have no object.

    Raises:
        ConfigError: When the teacher predicts no masks.
    """
    predictions, truths = [], []
    for image in images:
        instances = teacher.predict(image.inputs, image.samples)[0].pred_instances
        if 'masks' not in instances:
            raise ConfigError(f'teacher {teacher.name!r} predicts no masks, so it has no mask AP')
        predictions.append(_cropped(instances, image.samples[0]))
        truths.append(image.truth)
    labels = [int(label) for item in (*truths, *predictions) for label in item.labels]
    return instance_ap(predictions, truths, max(labels, default=0) + 1)['AP']


def _truth(sample: Any) -> InstanceData:  # noqa: ANN401 - data samples
    """Return labels and masks in network-input pixels; a pipeline may load them after it resized the image."""
    shape = tuple(sample.metainfo['img_shape'][:2])
    masks = sample.gt_instances.masks
    if (masks.height, masks.width) != shape:
        masks = masks.resize(shape)
    return InstanceData(labels=sample.gt_instances.labels, masks=masks)


def _cropped(instances: InstanceData, sample: Any) -> InstanceData:  # noqa: ANN401 - data samples
    """Return predictions without the padding of the batch."""
    height, width = sample.metainfo['img_shape'][:2]
    return InstanceData(
        labels=instances.labels,
        scores=instances.scores,
        masks=instances.masks[:, :height, :width],
    )
