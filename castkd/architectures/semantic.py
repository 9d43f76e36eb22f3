"""Builders of plain mmseg model configs of convolutional segmentors.

What they return are ordinary mmseg configs without anything of castkd in them, but for :func:`label_assisted`.
"""

from __future__ import annotations

from collections.abc import Sequence

from castkd.architectures.parts import (
    BATCH_NORM,
    DEPTHS,
    pixel_loss,
    pretrained_init,
    resnet_channels,
    segmentor,
)
from castkd.checks import check_choice, check_number

#: Decode heads on a ResNet of stride 8: Long et al. (CVPR 2015), Chen et al. (arXiv 1706.05587), Zhao et al.
#: (CVPR 2017), Yuan et al. (ECCV 2020).
HEADS = ('fcn', 'deeplabv3', 'pspnet', 'ocrnet')
_LABEL_ASSISTED = {
    'EncoderDecoder': 'castkd.LabelAssistedSegmentor',
    'CascadeEncoderDecoder': 'castkd.LabelAssistedCascadeSegmentor',
}


def resnet_segmentor(
    num_classes: int,
    head: str = 'fcn',
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    num_convs: int = 2,
    auxiliary: bool = True,
    deep_stem: bool = False,
    dropout: float = 0.1,
    class_weight: Sequence[float] | None = None,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg segmentor: a ResNet of stride 8 with a head behind it.

    OCRNet's soft regions come from the smaller head on the third stage: it becomes the first of two decode heads, and
    the logits are the output of ``decode_head.1.conv_seg``.

    Args:
        num_classes: Number of classes.
        head: One of :data:`HEADS`: 3 x 3 convolutions, atrous pyramid pooling, pooling to 1, 2, 3 and 6 cells, or
            object-contextual representations.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the head.
        num_convs: Convolutions of ``fcn`` before the classifier.
        auxiliary: Whether a second, smaller head on the third stage is trained too, at 0.4 of the weight. OCRNet has it
            always.
        deep_stem: Whether three 3 x 3 convolutions stand for the first one of 7 x 7 (``ResNetV1c``).
        dropout: Share of the channels that the heads drop before their classifier, in [0, 1).
        class_weight: Weight of each class in the cross-entropy of all heads, which is then a weighted mean.
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such head or depth, or the dropout is out of its range.
    """
    check_choice('resnet_segmentor', 'head', head, HEADS)
    check_choice('resnet_segmentor', 'depth', depth, DEPTHS)
    check_number('resnet_segmentor', 'dropout', dropout, low=0, high=1, high_open=True)
    own = {
        'fcn': {'type': 'FCNHead', 'num_convs': num_convs, 'concat_input': num_convs > 0},
        'deeplabv3': {'type': 'ASPPHead', 'dilations': (1, 12, 24, 36)},
        'pspnet': {'type': 'PSPHead', 'pool_scales': (1, 2, 3, 6)},
        'ocrnet': {'type': 'OCRHead', 'ocr_channels': max(channels // 2, 1)},
    }
    widths = resnet_channels(depth, base_channels)
    shared = {'num_classes': num_classes, 'dropout_ratio': dropout}
    losses = pixel_loss(1.0, class_weight), pixel_loss(0.4, class_weight)
    decode = _decode_head({**own[head], **shared}, widths, 3, channels, losses[0])
    smaller = {'type': 'FCNHead', 'num_convs': 1, 'concat_input': False, **shared}
    second = _decode_head(smaller, widths, 2, max(channels // 2, 1), losses[1])
    model = segmentor(
        backbone=_dilated_resnet(depth, base_channels, deep_stem, pretrained), decode_head=decode
    )
    if head == 'ocrnet':
        cascade = {'type': 'CascadeEncoderDecoder', 'num_stages': 2}
        return {**model, **cascade, 'decode_head': [second, decode]}
    return {**model, 'auxiliary_head': second} if auxiliary else model


def _decode_head(own: dict, widths: list[int], stage: int, channels: int, loss: dict) -> dict:
    return {
        **own,
        'norm_cfg': BATCH_NORM,
        'align_corners': False,
        'in_channels': widths[stage],
        'in_index': stage,
        'channels': channels,
        'loss_decode': loss,
    }


def _dilated_resnet(
    depth: int, base_channels: int, deep_stem: bool, pretrained: str | None
) -> dict:
    return {
        'type': 'ResNetV1c' if deep_stem else 'ResNet',
        'depth': depth,
        'base_channels': base_channels,
        'stem_channels': base_channels,
        'num_stages': 4,
        'out_indices': (0, 1, 2, 3),
        'dilations': (1, 1, 2, 4),
        'strides': (1, 2, 1, 1),
        'norm_cfg': BATCH_NORM,
        'style': 'pytorch',
        'contract_dilation': True,
        'init_cfg': pretrained_init(pretrained),
    }


def stdc(
    num_classes: int,
    *,
    base_channels: int = 32,
    channels: int = 128,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg STDC1-Seg: a light network of stride 8 with a context path (Fan et al., CVPR 2021).

    Two auxiliary heads learn the classes, a third one the borders between them; all train at full weight. The heads of
    classes learn from their hardest pixels (probability of the true class below 0.7, at least 10 000 per image).

    Args:
        num_classes: Number of classes.
        base_channels: Width of the first stage; the others are 2, 8, 16 and 32 times as wide.
        channels: Width of the context path; the fused map is twice as wide.
        pretrained: Checkpoint of the STDC1 backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.
    """
    widths = [base_channels * factor for factor in (1, 2, 8, 16, 32)]
    border = {
        'type': 'STDCHead',
        'num_classes': 2,
        'boundary_threshold': 0.1,
        'loss_decode': [
            {'type': 'CrossEntropyLoss', 'loss_name': 'loss_ce', 'use_sigmoid': True},
            {'type': 'DiceLoss', 'loss_name': 'loss_dice'},
        ],
    }
    classes = {
        'type': 'FCNHead',
        'num_classes': num_classes,
        'sampler': {'type': 'OHEMPixelSampler', 'thresh': 0.7, 'min_kept': 10_000},
        'loss_decode': pixel_loss(),
    }
    backbone = {
        'type': 'STDCNet',
        'stdc_type': 'STDCNet1',
        'in_channels': 3,
        'channels': widths,
        'bottleneck_type': 'cat',
        'num_convs': 4,
        'norm_cfg': BATCH_NORM,
        'act_cfg': {'type': 'ReLU'},
        'with_final_conv': False,
        'init_cfg': pretrained_init(pretrained),
    }
    fused = 2 * channels
    fusion = {'in_channels': widths[2] + channels, 'out_channels': fused, 'scale_factor': 4}
    return segmentor(
        backbone={
            'type': 'STDCContextPathNet',
            'backbone_cfg': backbone,
            'last_in_channels': (widths[4], widths[3]),
            'out_channels': channels,
            'ffm_cfg': fusion,
        },
        decode_head=_light_head(classes, 3, fused, fused),
        auxiliary_head=[
            _light_head(classes, 2, channels, channels // 2),
            _light_head(classes, 1, channels, channels // 2),
            _light_head(border, 0, widths[2], channels // 2),
        ],
    )


def _light_head(kind: dict, index: int, width: int, channels: int) -> dict:
    """Return the config of a head of one convolution on map ``index``, which is ``width`` wide."""
    size = {'in_index': index, 'in_channels': width, 'channels': channels}
    shared = {'num_convs': 1, 'concat_input': False, 'norm_cfg': BATCH_NORM, 'align_corners': True}
    return {**kind, **size, **shared, 'dropout_ratio': 0.1}


def label_assisted(network: dict, *, mode: str = 'fixed', sigma: float = 0.02) -> dict:
    """Return the twin of a segmentor that reads label maps too: LAD's teacher.

    Args:
        network: Config of an mmseg ``EncoderDecoder`` or ``CascadeEncoderDecoder``; it is left as it is.
        mode: Values of the labels when it teaches or is tested, see
            :class:`castkd.datasets.transforms.LabelNoise`: ``fixed``, or ``random`` for data of many classes.
        sigma: Noise of a pixel then, at least 0.

    Raises:
        ConfigError: When the network is of another type.
    """
    check_choice('label_assisted', 'type of network', network['type'], _LABEL_ASSISTED)
    noise = {'type': 'castkd.LabelNoise', 'mode': mode, 'sigma': sigma}
    return {**network, 'type': _LABEL_ASSISTED[network['type']], 'test_noise': noise}
