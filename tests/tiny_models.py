"""Models that are small enough to run in a test, as plain mm configs."""

from __future__ import annotations

from mmengine.config import ConfigDict

from castkd.architectures import mask2former


def tiny_mask2former(num_classes=2, num_queries=5):
    """Return the config of an mmdet Mask2Former with about 200 thousand parameters."""
    config = mask2former(
        num_classes,
        depth=18,
        base_channels=8,
        channels=16,
        num_queries=num_queries,
        encoder_layers=1,
        decoder_layers=2,
        ffn_channels=32,
        num_points=64,
    )
    return ConfigDict(config)


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
    config = {
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
    return ConfigDict(config)
