"""Tiny networks and batches that many tests share."""

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample

from castkd.architectures import dinov2_mask2former, mask2former, solov2


def tiny_mask2former(num_classes=2, **options):
    """Return the config of a Mask2Former that runs in milliseconds."""
    sizes = dict(
        depth=18,
        base_channels=8,
        channels=16,
        num_queries=6,
        encoder_layers=1,
        decoder_layers=2,
        ffn_channels=32,
        num_points=64,
    )
    return mask2former(num_classes, **{**sizes, **options})


def tiny_dinov2_mask2former(num_classes=2, **options):
    """Return the config of a Mask2Former on DINOv2 that runs in milliseconds."""
    encoder = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28)
    sizes = dict(
        encoder=encoder,
        widths=(8, 8, 16, 24),
        channels=16,
        num_queries=6,
        decoder_layers=2,
        ffn_channels=32,
        num_points=64,
    )
    return dinov2_mask2former(num_classes, **{**sizes, **options})


def tiny_solov2(num_classes=2, **options):
    """Return the config of a SOLOv2 for images of 64 x 64 that runs in milliseconds."""
    sizes = dict(
        depth=18,
        base_channels=8,
        channels=16,
        stacked_convs=1,
        num_grids=(8, 6, 4, 2),
        scale_ranges=((1, 16), (8, 32), (16, 64), (32, 128)),
        max_per_image=20,
    )
    return solov2(num_classes, **{**sizes, **options})


def tiny_segmentor(num_classes=3):
    """Return the config of an mmseg fully convolutional segmentor."""
    preprocessor = {
        'type': 'SegDataPreProcessor',
        'mean': [123.675, 116.28, 103.53],
        'std': [58.395, 57.12, 57.375],
        'bgr_to_rgb': True,
        'pad_val': 0,
        'seg_pad_val': 255,
        'size_divisor': 32,
        'test_cfg': {'size_divisor': 32},
    }
    head = {
        'type': 'FCNHead',
        'in_channels': 64,
        'in_index': 3,
        'channels': 16,
        'num_convs': 1,
        'concat_input': False,
        'dropout_ratio': 0.0,
        'num_classes': num_classes,
        'norm_cfg': {'type': 'BN'},
        'align_corners': False,
        'loss_decode': {'type': 'CrossEntropyLoss', 'loss_weight': 1.0},
    }
    return {
        '_scope_': 'mmseg',
        'type': 'EncoderDecoder',
        'data_preprocessor': preprocessor,
        'backbone': {
            'type': 'ResNet',
            'depth': 18,
            'base_channels': 8,
            'num_stages': 4,
            'out_indices': (0, 1, 2, 3),
            'norm_cfg': {'type': 'BN'},
        },
        'decode_head': head,
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    }


def make_sample(masks, labels, shape=None, matrix=None, scores=None):
    """Return a data sample with ``masks`` (n, H, W) as its instances."""
    masks = np.asarray(masks, dtype=np.uint8)
    size = masks.shape[1:]
    sample = DetDataSample()
    sample.set_metainfo(
        dict(
            img_shape=shape or size,
            ori_shape=shape or size,
            batch_input_shape=size,
            pad_shape=size,
            img_id=0,
            img_path='image.png',
            homography_matrix=np.eye(3, dtype=np.float32) if matrix is None else matrix,
        )
    )
    instances = InstanceData()
    instances.labels = torch.as_tensor(labels, dtype=torch.long)
    boxes = [_box(mask) for mask in masks]
    instances.bboxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    instances.masks = BitmapMasks(masks, *size)
    if scores is not None:
        instances.scores = torch.as_tensor(scores)
    sample.gt_instances = instances
    return sample


def make_map_sample(labels=None, shape=None, matrix=None, **meta):
    """Return a data sample with ``labels`` (H, W) as its semantic map; ``shape`` is the image's without padding."""
    size = np.shape(labels) if labels is not None else shape
    shape = shape or size
    sample = SegDataSample()
    sample.set_metainfo(
        dict(
            img_shape=shape,
            ori_shape=shape,
            padding_size=(0, size[1] - shape[1], 0, size[0] - shape[0]),
            img_path='image.png',
            homography_matrix=np.eye(3, dtype=np.float32) if matrix is None else matrix,
        )
    )
    sample.set_metainfo(meta)
    if labels is not None:
        sample.gt_sem_seg = PixelData(data=torch.as_tensor(labels, dtype=torch.long)[None])
    return sample


def _box(mask):
    rows, columns = np.nonzero(mask)
    if len(rows) == 0:
        return [0.0, 0.0, 0.0, 0.0]
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def square_masks(size, squares):
    """Return (n, size, size) masks of (top, left, side) squares."""
    masks = np.zeros((len(squares), size, size), dtype=np.uint8)
    for mask, (top, left, side) in zip(masks, squares, strict=True):
        mask[top : top + side, left : left + side] = 1
    return masks


def make_batch(views, images=2, size=64, seed=0):
    """Return ``inputs`` and ``data_samples`` per view; all views of a batch show the same random image."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, 3, size, size, generator=generator)
    squares = [[(4, 4, 20), (30, 28, 24)], [(10, 20, 16)]]
    inputs = {view: image + 0.05 * index for index, view in enumerate(views)}
    samples = {
        view: [
            make_sample(square_masks(size, squares[index % 2]), [0, 1][: len(squares[index % 2])])
            for index in range(images)
        ]
        for view in views
    }
    return inputs, samples
