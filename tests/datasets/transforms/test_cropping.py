"""The crop cuts image and labels alike, and says in the record of the geometry where."""

import numpy as np
import pytest

from castkd.datasets.transforms import RandomCrop
from castkd.errors import ConfigError


def sample(height=20, width=30, labels=True):
    rows, columns = np.mgrid[:height, :width]
    results = {'img': np.stack([rows, columns, rows], -1).astype(np.uint8)}
    if labels:
        results |= {'gt_seg_map': (rows + columns).astype(np.uint8), 'seg_fields': ['gt_seg_map']}
    return results


def test_image_labels_and_record_agree():
    np.random.seed(3)
    start = np.array([[2, 0, 5], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    results = RandomCrop((7, 9))({**sample(), 'homography_matrix': start})
    assert results['img'].shape == (7, 9, 3)
    assert results['img_shape'] == (7, 9)
    top, left = results['img'][0, 0, :2].tolist()
    assert top > 0
    assert left > 0
    assert (results['gt_seg_map'] == results['img'][..., :2].sum(-1)).all()
    assert results['homography_matrix'].dtype == np.float32
    # A point of the image as it was before: (x, y) -> (2 x + 5 - left, y - top).
    moved = results['homography_matrix'] @ [10, 4, 1]
    assert moved.tolist() == [25 - left, 4 - top, 1]


def test_small_images_and_images_without_labels_are_cut_too():
    results = RandomCrop((25, 10), cat_max_ratio=0.75)(sample(labels=False))
    assert results['img_shape'] == (20, 10)
    assert 'gt_seg_map' not in results
    assert results['homography_matrix'][1, 2] == 0


def test_crops_of_one_class_are_drawn_again():
    np.random.seed(0)
    results = {'img': np.zeros((8, 200, 3), np.uint8), 'seg_fields': ['gt_seg_map']}
    labels = np.full((8, 200), 255, np.uint8)
    labels[:, :100], labels[:, 100:108] = 1, 2
    crops = [RandomCrop((8, 60), 0.9)({**results, 'gt_seg_map': labels}) for _ in range(20)]
    varied = [len(np.unique(crop['gt_seg_map'][crop['gt_seg_map'] < 255])) == 2 for crop in crops]
    any_crop = [RandomCrop((8, 60))({**results, 'gt_seg_map': labels}) for _ in range(20)]
    plain = [len(np.unique(crop['gt_seg_map'][crop['gt_seg_map'] < 255])) == 2 for crop in any_crop]
    assert sum(varied) > sum(plain) + 5


def test_a_fully_ignored_image_is_cut():
    labels = np.full((8, 8), 255, np.uint8)
    results = {'img': np.zeros((8, 8, 3), np.uint8), 'seg_fields': ['gt_seg_map']}
    assert RandomCrop((4, 4), 0.5)({**results, 'gt_seg_map': labels})['img_shape'] == (4, 4)


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r'crop_size \(width\) must be an integer'):
        RandomCrop((4, 0))
    with pytest.raises(ConfigError, match='cat_max_ratio must be a number in'):
        RandomCrop((4, 4), 0)
