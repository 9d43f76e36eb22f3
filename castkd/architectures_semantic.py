"""Builders of plain mmseg model configs, as :mod:`castkd.architectures` has them for mmdet.

What they return are ordinary mmseg configs without anything of castkd in them.
"""

from __future__ import annotations

from castkd.checks import check_choice

_MEAN = [123.675, 116.28, 103.53]
_STD = [58.395, 57.12, 57.375]
_DEPTHS = (18, 34, 50, 101)
_NORM = {'type': 'BN', 'requires_grad': True}


def fcn(
    num_classes: int,
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    num_convs: int = 2,
    auxiliary: bool = True,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg FCN: a ResNet of stride 8 with 3 x 3 convolutions behind it (Long et al., CVPR 2015).

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the head.
        num_convs: Convolutions of the head before the classifier.
        auxiliary: Whether a second, smaller head on the third stage is trained too, at 0.4 of the weight.
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice('fcn', 'depth', depth, _DEPTHS)
    head = {'type': 'FCNHead', 'num_convs': num_convs, 'concat_input': num_convs > 0}
    return _segmentor(head, num_classes, depth, base_channels, channels, auxiliary, pretrained)


def deeplabv3(
    num_classes: int,
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    auxiliary: bool = True,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg DeepLabV3: a ResNet of stride 8 with atrous pyramid pooling (Chen et al., arXiv 1706.05587).

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the head.
        auxiliary: Whether a second, smaller head on the third stage is trained too, at 0.4 of the weight.
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice('deeplabv3', 'depth', depth, _DEPTHS)
    head = {'type': 'ASPPHead', 'dilations': (1, 12, 24, 36)}
    return _segmentor(head, num_classes, depth, base_channels, channels, auxiliary, pretrained)


def preprocessor() -> dict:
    """Return mmseg's image preprocessing with the means of ImageNet; batches are padded to their largest image."""
    return {
        'type': 'SegDataPreProcessor',
        'mean': _MEAN,
        'std': _STD,
        'bgr_to_rgb': True,
        'pad_val': 0,
        'seg_pad_val': 255,
        'size_divisor': 1,
    }


def pixel_loss(weight: float = 1.0) -> dict:
    """Return cross-entropy, averaged over the pixels that have a class; mmseg's default counts the others too."""
    return {
        'type': 'CrossEntropyLoss',
        'use_sigmoid': False,
        'avg_non_ignore': True,
        'loss_weight': weight,
    }


def _segmentor(
    head: dict,
    num_classes: int,
    depth: int,
    base_channels: int,
    channels: int,
    auxiliary: bool,
    pretrained: str | None,
) -> dict:
    widths = [base_channels * (1 if depth in (18, 34) else 4) * 2**level for level in range(4)]
    common = {
        'num_classes': num_classes,
        'norm_cfg': _NORM,
        'align_corners': False,
        'dropout_ratio': 0.1,
    }
    model = {
        '_scope_': 'mmseg',
        'type': 'EncoderDecoder',
        'data_preprocessor': preprocessor(),
        'backbone': {
            'type': 'ResNet',
            'depth': depth,
            'base_channels': base_channels,
            'stem_channels': base_channels,
            'num_stages': 4,
            'out_indices': (0, 1, 2, 3),
            'dilations': (1, 1, 2, 4),
            'strides': (1, 2, 1, 1),
            'norm_cfg': _NORM,
            'style': 'pytorch',
            'contract_dilation': True,
            'init_cfg': {'type': 'Pretrained', 'checkpoint': pretrained} if pretrained else None,
        },
        'decode_head': {
            **head,
            **common,
            'in_channels': widths[3],
            'in_index': 3,
            'channels': channels,
            'loss_decode': pixel_loss(),
        },
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    }
    if auxiliary:
        model['auxiliary_head'] = {
            'type': 'FCNHead',
            **common,
            'in_channels': widths[2],
            'in_index': 2,
            'channels': max(channels // 2, 1),
            'num_convs': 1,
            'concat_input': False,
            'loss_decode': pixel_loss(0.4),
        }
    return model
