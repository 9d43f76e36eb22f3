"""Builder of DeepLabV3+ with the backbones of lightweight students and of their teachers."""

from __future__ import annotations

import math

from castkd.architectures.parts import (
    BATCH_NORM,
    pixel_loss,
    pretrained_init,
    segmentor,
)
from castkd.checks import check_choice, check_number

# Per name: type, depth, channels of the stages' outputs by width of the first, blocks of the last stage.
_RESNETS = {
    'resnet18': ('ResNetV1c', 18, 1, 2),
    'resnet50': ('ResNetV1c', 50, 4, 3),
    'resnet101': ('ResNetV1c', 101, 4, 3),
    'wide_resnet50': ('castkd.WideResNet', None, 4, 3),
}
BACKBONES = (*_RESNETS, 'mobilenet_v2')


def deeplabv3plus(
    num_classes: int,
    backbone: str = 'resnet18',
    *,
    width: float = 1.0,
    channels: int = 256,
    loss: dict | None = None,
    window: tuple[int, int] | None = None,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg DeepLabV3+ without auxiliary head (Chen et al., ECCV 2018), as MGD trains it.

    ResNets keep stride 16; the blocks of their last stage have dilations 2, 4, 8. MobileNetV2 keeps stride 32, with
    dilation 8 in its last block. The head joins pyramid pooling (rates 6, 12, 18) with the map of stride 4; its
    convolutions are depthwise separable (mmseg's). Logits are resized with aligned corners, and nothing is dropped
    out, so that ``decode_head.conv_seg:input`` is the feature before the classifier.

    Args:
        num_classes: Number of classes.
        backbone: ``resnet18``, ``resnet50``, ``resnet101`` (with the deep stem), ``wide_resnet50`` or ``mobilenet_v2``.
        width: Factor of the backbone's widths, above 0.
        channels: Width of the head and of the feature before the classifier.
        loss: Config of the decode head's loss; None takes cross-entropy over the pixels that have a class.
        window: (H, W) of the windows in which images are predicted, two thirds of it apart; None predicts whole images.
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``; plain mmseg but for ``wide_resnet50``.

    Raises:
        ConfigError: When there is no such backbone, or ``width`` is out of range.
    """
    check_choice('deeplabv3plus', 'backbone', backbone, BACKBONES)
    check_number('deeplabv3plus', 'width', width, low=0, low_open=True)
    network, low, deep = (_mobilenet if backbone == 'mobilenet_v2' else _resnet)(backbone, width)
    return segmentor(
        backbone={**network, 'norm_cfg': BATCH_NORM, 'init_cfg': pretrained_init(pretrained)},
        decode_head={
            'type': 'DepthwiseSeparableASPPHead',
            'in_channels': deep,
            'in_index': 3,
            'channels': channels,
            'dilations': (1, 6, 12, 18),
            'c1_in_channels': low,
            'c1_channels': 24 if backbone == 'mobilenet_v2' else 48,
            'dropout_ratio': 0.0,
            'num_classes': num_classes,
            'norm_cfg': BATCH_NORM,
            'align_corners': True,
            'loss_decode': loss or pixel_loss(),
        },
        test_cfg=window and _windows(window),
    )


def _windows(size: tuple[int, int]) -> dict:
    stride = tuple(math.ceil(side * 2 / 3) for side in size)
    return {'mode': 'slide', 'crop_size': tuple(size), 'stride': stride}


def _resnet(name: str, width: float) -> tuple[dict, int, int]:
    """Return the config of a ResNet and the channels of its first and last stage."""
    kind, depth, expansion, blocks = _RESNETS[name]
    base = round(64 * width)
    config = {
        'type': kind,
        'base_channels': base if depth else 2 * base,
        'stem_channels': base,
        'num_stages': 4,
        'out_indices': (0, 1, 2, 3),
        'strides': (1, 2, 2, 1),
        'dilations': (1, 1, 1, 2),
        'multi_grid': (2, 4, 8)[:blocks],
        'style': 'pytorch',
    }
    if depth:
        config['depth'] = depth
    return config, base * expansion, base * expansion * 8


def _mobilenet(_: str, width: float) -> tuple[dict, int, int]:
    """Return the config of a MobileNetV2 and the channels of its maps of stride 4 and 32."""
    # Reading a config must not load mmseg, with all its networks, where this one is not asked for.
    from mmseg.models.utils import make_divisible

    config = {
        'type': 'MobileNetV2',
        'widen_factor': width,
        'strides': (1, 2, 2, 2, 1, 2, 1),
        'dilations': (1, 1, 1, 1, 1, 1, 8),
        'out_indices': (1, 2, 4, 6),
    }
    # As MobileNetV2 rounds its widths.
    return config, make_divisible(24 * width, 8), make_divisible(320 * width, 8)
