"""Resized labels stay on their image."""

import numpy as np
import pytest
from mmdet.structures.mask import BitmapMasks

from castkd.registry import TRANSFORMS

RESIZES = [
    dict(type='castkd.Resize', scale_factor=0.63),
    dict(type='castkd.Resize', scale_factor=0.8, keep_ratio=True),
    dict(type='castkd.Resize', scale_factor=1.15, keep_ratio=True),
    dict(type='castkd.Resize', scale=(75, 110), keep_ratio=False),
    dict(type='castkd.ResizeShortestEdge', scale=91),
    dict(type='castkd.ResizeShortestEdge', scale=91, max_size=77),
]


def discs(number=40, side=64, radius=6):
    """Return round masks (number, side, side) at places that are no whole pixels."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(radius + 1, side - radius - 1, (number, 2, 1, 1))
    rows, columns = np.mgrid[:side, :side] + 0.5
    return ((rows - centres[:, 0]) ** 2 + (columns - centres[:, 1]) ** 2 < radius**2).astype(
        np.uint8
    )


def resized(options, image, masks):
    results = {
        'img': image,
        'img_shape': image.shape[:2],
        'gt_masks': BitmapMasks(masks, *masks.shape[1:]),
        'gt_seg_map': masks[0],
        'homography_matrix': np.eye(3, dtype=np.float32),
    }
    return TRANSFORMS.build(options)(results)


def middle(weights):
    """Return row and column of the middle of a map."""
    return (np.indices(weights.shape) * weights).sum((1, 2)) / weights.sum()


@pytest.mark.parametrize('options', RESIZES)
def test_masks_and_maps_stay_where_the_image_is(options):
    """The middle of an object in the resized image is that of its mask and of its map."""
    moved = []
    for mask in discs():
        found = resized(options, np.repeat(200 * mask[:, :, None], 3, 2), mask[None])
        grey = found['img'][..., 0].astype(float)
        label = found['gt_masks'].masks[0]
        assert (label == found['gt_seg_map']).all()
        moved.append([label.sum() / (grey.sum() / 200) - 1, *(middle(label) - middle(grey))])
    # mmdet's own lie 0.5 pixels beside the image.
    assert np.abs(np.mean(moved, axis=0)).max() < 0.1


def test_without_labels_the_image_is_resized_alone():
    image = np.zeros((20, 30, 3), np.uint8)
    found = TRANSFORMS.build(RESIZES[0])({'img': image})
    assert found['img'].shape == (13, 19, 3)
    assert 'gt_masks' not in found


def test_no_objects():
    found = resized(RESIZES[2], np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64), np.uint8))
    assert found['gt_masks'].masks.shape == (1, 74, 74)
    empty = {'img': np.zeros((64, 64, 3), np.uint8), 'gt_masks': BitmapMasks([], 64, 64)}
    assert len(TRANSFORMS.build(RESIZES[2])(empty)['gt_masks']) == 0
