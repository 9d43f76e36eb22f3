"""Builders of plain mmseg model configs, as :mod:`castkd.architectures` has them for mmdet.

What they return are ordinary mmseg configs without anything of castkd in them, but for :func:`label_assisted`.
"""

from __future__ import annotations

from castkd.checks import check_choice

_MEAN = [123.675, 116.28, 103.53]
_STD = [58.395, 57.12, 57.375]
_DEPTHS = (18, 34, 50, 101)
_NORM = {'type': 'BN', 'requires_grad': True}
_LABEL_ASSISTED = {
    'EncoderDecoder': 'castkd.LabelAssistedSegmentor',
    'CascadeEncoderDecoder': 'castkd.LabelAssistedCascadeSegmentor',
}


def fcn(
    num_classes: int,
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    num_convs: int = 2,
    auxiliary: bool = True,
    deep_stem: bool = False,
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
        deep_stem: Whether three 3 x 3 convolutions stand for the first one of 7 x 7 (``ResNetV1c``).
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice('fcn', 'depth', depth, _DEPTHS)
    head = {'type': 'FCNHead', 'num_convs': num_convs, 'concat_input': num_convs > 0}
    return _segmentor(
        head, num_classes, depth, base_channels, channels, auxiliary, deep_stem, pretrained
    )


def deeplabv3(
    num_classes: int,
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    auxiliary: bool = True,
    deep_stem: bool = False,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg DeepLabV3: a ResNet of stride 8 with atrous pyramid pooling (Chen et al., arXiv 1706.05587).

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the head.
        auxiliary: Whether a second, smaller head on the third stage is trained too, at 0.4 of the weight.
        deep_stem: Whether three 3 x 3 convolutions stand for the first one of 7 x 7 (``ResNetV1c``).
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice('deeplabv3', 'depth', depth, _DEPTHS)
    head = {'type': 'ASPPHead', 'dilations': (1, 12, 24, 36)}
    return _segmentor(
        head, num_classes, depth, base_channels, channels, auxiliary, deep_stem, pretrained
    )


def pspnet(
    num_classes: int,
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    auxiliary: bool = True,
    deep_stem: bool = False,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg PSPNet: a ResNet of stride 8 with pooling to 1, 2, 3 and 6 cells (Zhao et al., CVPR 2017).

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the head.
        auxiliary: Whether a second, smaller head on the third stage is trained too, at 0.4 of the weight.
        deep_stem: Whether three 3 x 3 convolutions stand for the first one of 7 x 7 (``ResNetV1c``).
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice('pspnet', 'depth', depth, _DEPTHS)
    head = {'type': 'PSPHead', 'pool_scales': (1, 2, 3, 6)}
    return _segmentor(
        head, num_classes, depth, base_channels, channels, auxiliary, deep_stem, pretrained
    )


def ocrnet(
    num_classes: int,
    *,
    depth: int = 18,
    base_channels: int = 64,
    channels: int = 128,
    deep_stem: bool = False,
    pretrained: str | None = None,
) -> dict:
    """Return an mmseg OCRNet: a ResNet of stride 8 with object-contextual representations (Yuan et al., ECCV 2020).

    Its soft regions come from a first head on the third stage, which is trained too, at 0.4 of the weight. The logits
    are the output of ``decode_head.1.conv_seg``.

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the second head; object regions are described in half of it.
        deep_stem: Whether three 3 x 3 convolutions stand for the first one of 7 x 7 (``ResNetV1c``).
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmseg'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice('ocrnet', 'depth', depth, _DEPTHS)
    head = {'type': 'OCRHead', 'ocr_channels': max(channels // 2, 1)}
    model = _segmentor(
        head, num_classes, depth, base_channels, channels, True, deep_stem, pretrained
    )
    regions = model.pop('auxiliary_head')
    return {
        **model,
        'type': 'CascadeEncoderDecoder',
        'num_stages': 2,
        'decode_head': [regions, model['decode_head']],
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
        'norm_cfg': _NORM,
        'act_cfg': {'type': 'ReLU'},
        'with_final_conv': False,
        'init_cfg': {'type': 'Pretrained', 'checkpoint': pretrained} if pretrained else None,
    }
    fused = 2 * channels
    fusion = {'in_channels': widths[2] + channels, 'out_channels': fused, 'scale_factor': 4}
    return {
        '_scope_': 'mmseg',
        'type': 'EncoderDecoder',
        'data_preprocessor': preprocessor(),
        'backbone': {
            'type': 'STDCContextPathNet',
            'backbone_cfg': backbone,
            'last_in_channels': (widths[4], widths[3]),
            'out_channels': channels,
            'ffm_cfg': fusion,
        },
        'decode_head': _light_head(classes, 3, fused, fused),
        'auxiliary_head': [
            _light_head(classes, 2, channels, channels // 2),
            _light_head(classes, 1, channels, channels // 2),
            _light_head(border, 0, widths[2], channels // 2),
        ],
        'train_cfg': {},
        'test_cfg': {'mode': 'whole'},
    }


def _light_head(kind: dict, index: int, width: int, channels: int) -> dict:
    """Return the config of a head of one convolution on map ``index``, which is ``width`` wide."""
    size = {'in_index': index, 'in_channels': width, 'channels': channels}
    shared = {'num_convs': 1, 'concat_input': False, 'norm_cfg': _NORM, 'align_corners': True}
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
    deep_stem: bool,
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
            'type': 'ResNetV1c' if deep_stem else 'ResNet',
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
