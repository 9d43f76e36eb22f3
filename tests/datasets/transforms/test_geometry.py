import mmdet.datasets  # noqa: F401  (registers the transforms)
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope

from castkd.datasets.transforms import (
    relative_homography,
    warp_boxes,
    warp_masks,
    warp_semantic,
)
from castkd.errors import ConfigError

HEIGHT, WIDTH = 241, 325
FLIPS = [
    {'type': 'RandomFlip', 'prob': 1.0, 'direction': direction}
    for direction in ('horizontal', 'vertical', 'diagonal')
]
CROP = {'type': 'RandomCrop', 'crop_size': (140, 190), 'allow_negative_crop': True}
EXACT = [[flip] for flip in FLIPS] + [[CROP], [FLIPS[0], CROP], [CROP, FLIPS[2], FLIPS[1]]]
RESIZES = [
    [{'type': 'Resize', 'scale': (493, 401), 'keep_ratio': False}],
    [{'type': 'Resize', 'scale_factor': 0.8, 'keep_ratio': True}],
    [{'type': 'Resize', 'scale_factor': 1.7, 'keep_ratio': True}, FLIPS[0], CROP],
]


def annotations():
    """Return results with blobs as masks, their boxes, and a semantic map; every value by a fixed seed."""
    rng = np.random.RandomState(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = []
    for _ in range(6):
        y, x = rng.uniform(60, 180), rng.uniform(80, 240)
        a, b = rng.uniform(40, 80, 2)
        masks.append(((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1)
    masks = np.stack(masks).astype(np.uint8)
    boxes = BitmapMasks(masks, HEIGHT, WIDTH).get_bboxes(HorizontalBoxes)
    semantic = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, mask in enumerate(masks, 1):
        semantic[mask > 0] = label
    return {
        'img': np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        'img_shape': (HEIGHT, WIDTH),
        'gt_bboxes': boxes,
        'gt_bboxes_labels': np.arange(6),
        'gt_ignore_flags': np.zeros(6, bool),
        'gt_masks': BitmapMasks(masks, HEIGHT, WIDTH),
        'gt_seg_map': semantic,
        'homography_matrix': np.eye(3, dtype=np.float32),
    }


def augment(transforms, seed=0):
    np.random.seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return Compose(transforms)(annotations())


def carried(after):
    """Carry the original annotations by the record of ``after``; keep the instances that ``after`` kept."""
    before = annotations()
    matrix = torch.from_numpy(after['homography_matrix'])
    shape = after['img_shape']
    kept = torch.from_numpy(after['gt_bboxes_labels'])
    masks = warp_masks(torch.from_numpy(before['gt_masks'].masks).bool(), matrix, shape)[kept]
    boxes = warp_boxes(before['gt_bboxes'].tensor, matrix, shape)[kept]
    semantic = warp_semantic(torch.from_numpy(before['gt_seg_map']), matrix, shape)
    return masks.numpy(), boxes.numpy(), semantic.numpy()


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('transforms', EXACT)
def test_flips_and_crops_move_everything_as_the_pipeline_does(transforms, seed):
    after = augment(transforms, seed)
    masks, boxes, semantic = carried(after)
    assert len(masks) >= 2
    np.testing.assert_array_equal(masks, after['gt_masks'].masks.astype(bool))
    np.testing.assert_allclose(boxes, after['gt_bboxes'].tensor.numpy(), atol=1e-5)
    np.testing.assert_array_equal(semantic, after['gt_seg_map'])


@pytest.mark.parametrize('transforms', RESIZES)
def test_resizes_move_everything_nearly_as_the_pipeline_does(transforms):
    """cv2 picks the nearest source pixel by another rounding, so borders may differ by a pixel."""
    after = augment(transforms)
    masks, boxes, semantic = carried(after)
    truth = after['gt_masks'].masks.astype(bool)
    overlap = (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))
    assert len(masks) >= 2
    assert overlap.min() > 0.95
    assert (semantic == after['gt_seg_map']).mean() > 0.95
    np.testing.assert_allclose(boxes, after['gt_bboxes'].tensor.numpy(), atol=1e-3)


def test_views_of_one_image_are_related():
    """From one augmented view to another, by way of the image itself."""
    first, second = (augment([{'type': 'Resize', 'scale_factor': 2.0}, flip]) for flip in FLIPS[:2])
    samples = []
    for results in (first, second):
        sample = DetDataSample()
        sample.set_metainfo(
            {'homography_matrix': results['homography_matrix'], 'img_path': 'a.png'}
        )
        samples.append(sample)
    matrix = relative_homography(*samples)
    torch.testing.assert_close(matrix @ relative_homography(*samples[::-1]), torch.eye(3).double())
    masks = warp_masks(
        torch.from_numpy(first['gt_masks'].masks).bool(), matrix, second['img_shape']
    )
    np.testing.assert_array_equal(masks.numpy(), second['gt_masks'].masks.astype(bool))


def test_missing_record_is_refused():
    sample = DetDataSample(metainfo={'img_path': 'a.png'})
    with pytest.raises(ConfigError, match=r"image 'a.png' has no homography_matrix; load with"):
        relative_homography(sample, sample)


def test_shift_by_hand():
    """By two to the right and one down: the new border is filled, what leaves is lost."""
    matrix = torch.tensor([[1.0, 0, 2], [0, 1, 1], [0, 0, 1]])
    semantic = torch.arange(12, dtype=torch.uint8).view(3, 4)
    expected = [[255] * 4, [255, 255, 0, 1], [255, 255, 4, 5]]
    assert warp_semantic(semantic, matrix, (3, 4)).tolist() == expected
    assert warp_semantic(semantic, matrix, (2, 5), fill=9).tolist() == [[9] * 5, [9, 9, 0, 1, 2]]
    masks = warp_masks((semantic == 5)[None], matrix, (3, 4))
    assert masks.nonzero().tolist() == [[0, 2, 3]]
    assert masks.dtype == torch.bool
    boxes = warp_boxes(torch.tensor([[1.0, 1, 2, 2], [3, 2, 4, 3]]), matrix, (3, 4))
    assert boxes.tolist() == [[3, 2, 4, 3], [4, 3, 4, 3]]


def test_pixels_are_sampled_at_their_centres():
    """Three times larger: every pixel is a block; and back: the block's centre is taken."""
    semantic = torch.arange(12, dtype=torch.uint8).view(3, 4)
    matrix = torch.diag(torch.tensor([3.0, 3.0, 1.0]))
    large = semantic.repeat_interleave(3, 0).repeat_interleave(3, 1)
    torch.testing.assert_close(warp_semantic(semantic, matrix, (9, 12)), large)
    large[::3] = large[:, ::3] = large[2::3] = large[:, 2::3] = 99
    torch.testing.assert_close(warp_semantic(large, matrix.inverse(), (3, 4)), semantic)


def test_projective_part_is_divided_out():
    matrix = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.1, 1]])
    box = warp_boxes(torch.tensor([[0.0, 0, 10, 10]]), matrix, (20, 20))
    assert box.tolist() == [[0, 0, 10, 5]]
    ones = torch.ones(1, 10, 10, dtype=torch.bool)
    assert warp_masks(ones, matrix, (20, 20))[0].any(1).sum() == 5


def test_nothing_stays_nothing():
    matrix = torch.eye(3)
    assert warp_masks(torch.zeros(0, 4, 6, dtype=torch.bool), matrix, (3, 5)).shape == (0, 3, 5)
    assert warp_boxes(torch.zeros(0, 4), matrix, (3, 5)).shape == (0, 4)


def test_views_of_one_grid_are_carried_by_the_identity_into_new_masks():
    matrix = np.array([[0.813, 0, -3.7], [0, 1.21, 5.3], [0, 0, 1]], dtype=np.float32)
    source, dest = (DetDataSample(metainfo={'homography_matrix': matrix.copy()}) for _ in range(2))
    relative = relative_homography(source, dest)
    assert torch.equal(relative, torch.eye(3, dtype=torch.float64))
    masks = torch.rand(3, 8, 9) > 0.5
    carried = warp_masks(masks, relative, (8, 9))
    assert torch.equal(carried, masks)
    carried[:] = False
    assert masks.any()
    padded = warp_masks(masks, relative, (10, 12))
    assert torch.equal(padded[:, :8, :9], masks)
    assert not padded[:, 8:].any()
