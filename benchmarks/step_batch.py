"""Made-up batches for a stage config: as many images per view as it draws, in the size of its crops, with labels."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from benchmarks.common import discs
from castkd.distiller import Distiller
from castkd.semantic import IGNORE
from castkd.structures import source_view

OBJECTS = 8  # per image, as in the mean of nuclei128
_CELLS = 8  # of one class, per side of an image

Batch = tuple[dict[str, Tensor], dict[str, list]]


def make_batch(config: Config, distiller: Distiller, device: str) -> Batch:
    """Return normalised images (B, 3, H, W) and data samples per view of the batch that the first step reads."""
    rng = np.random.default_rng(0)
    counts = config.train_dataloader.batch_sampler.counts
    of_maps = hasattr(distiller.student, 'decode_head')
    size, sample = size_of(config, of_maps), map_sample if of_maps else instance_sample
    inputs, samples = {}, {}
    for view in views_of(distiller):
        count = counts['labeled' if view.startswith('sup') else 'unlabeled']
        images = rng.standard_normal((count, 3, *size), dtype=np.float32)
        inputs[view] = torch.from_numpy(images).to(device)
        classes = getattr(distiller.student, 'num_classes', 1)
        samples[view] = [sample(rng, size, classes).to(device) for _ in images]
    return inputs, samples


def size_of(config: Config, of_maps: bool) -> tuple[int, int]:
    """Return height and width of the crops of a training; without a crop those of a resized image, padded to 32."""
    steps = config.labeled_pipeline
    crop = next((tuple(step.crop_size) for step in steps if 'crop_size' in step), None)
    if crop is not None:
        # mmdet crops to (width, height), castkd's crop of label maps to (height, width).
        return crop if of_maps else crop[::-1]
    scale = next(step.scale for step in steps if 'scale' in step)
    height, width = (side + -side % 32 for side in scale[::-1])
    return height, width


def views_of(distiller: Distiller) -> list[str]:
    """Return the views of the batch that the first step reads, also those that it makes others of."""
    views = []
    for request in distiller.plan(0):
        view = source_view(request.view)
        while view in distiller.views:
            view = distiller.views[view].source
        views.append(view)
    return list(dict.fromkeys(views))


def instance_sample(rng: np.random.Generator, size: tuple[int, int], classes: int) -> DetDataSample:
    """Return labels of an image: discs of the first class."""
    del classes
    masks, boxes = discs(rng, min(size), OBJECTS)
    masks = np.pad(masks, [(0, 0), *((0, side - min(size)) for side in size)])
    sample = DetDataSample(metainfo=_meta(size))
    sample.gt_instances = InstanceData(
        labels=torch.zeros(OBJECTS, dtype=torch.long),
        bboxes=torch.from_numpy(boxes),
        masks=BitmapMasks(masks, *size),
    )
    return sample


def map_sample(rng: np.random.Generator, size: tuple[int, int], classes: int) -> SegDataSample:
    """Return labels of an image: a grid of random classes, and no class along its upper edge."""
    grid = rng.integers(0, classes, (_CELLS, _CELLS))
    rows, columns = (np.arange(side) * _CELLS // side for side in size)
    labels = grid[rows[:, None], columns]
    labels[:2] = IGNORE
    sample = SegDataSample(metainfo={**_meta(size), 'padding_size': (0, 0, 0, 0)})
    sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels)[None])
    return sample


def _meta(size: tuple[int, int]) -> dict:
    shapes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape'), size)
    return {**shapes, 'homography_matrix': np.eye(3, dtype=np.float32), 'img_path': 'made up'}
