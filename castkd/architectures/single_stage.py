"""Builders of plain mmdet configs of single-stage detectors with a feature pyramid, most on a ResNet.

At full size and with a pretrained backbone they are mmdet's own configs; from random weights see
:func:`castkd.architectures.pyramid.pyramid_body`.
"""

from __future__ import annotations

import copy
from typing import Any

from castkd.architectures.parts import detector_preprocessor, pretrained_init
from castkd.architectures.pyramid import L1, delta_coder, iou_assigner, pyramid_body, strides
from castkd.checks import check_choice

_FOCAL = {
    'type': 'FocalLoss',
    'use_sigmoid': True,
    'gamma': 2.0,
    'alpha': 0.25,
    'loss_weight': 1.0,
}
_CENTRENESS = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0}
_GIOU = {'type': 'GIoULoss', 'loss_weight': 2.0}
_ONE_ANCHOR = {
    'type': 'AnchorGenerator',
    'ratios': [1.0],
    'octave_base_scale': 8,
    'scales_per_octave': 1,
    'strides': strides(3, 5),
}
_ATSS = {
    'assigner': {'type': 'ATSSAssigner', 'topk': 9},
    'allowed_border': -1,
    'pos_weight': -1,
    'debug': False,
}


def retinanet(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    channels: int = 256,
    stacked_convs: int = 4,
    first_level: int = 3,
    num_levels: int = 5,
    anchor_size: float = 4,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet RetinaNet (Lin et al., ICCV 2017): 9 anchors per cell, focal loss, L1 loss of the boxes.

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of pyramid and head, a multiple of 4.
        stacked_convs: Convolutions of each of the head's two branches.
        first_level: Finest level of the pyramid: 2 (stride 4) for small objects, or 3 (stride 8).
        num_levels: Levels of the pyramid; each has twice the stride of the one before.
        anchor_size: Side of the smallest anchor of a level, in strides.
        pretrained: Checkpoint of the backbone; None starts from random weights, and gives the head norms.

    Returns:
        Config with ``_scope_='mmdet'``.

    Raises:
        ConfigError: When there is no such depth or first level.
    """
    check_choice('retinanet', 'first_level', first_level, (2, 3))
    body = pyramid_body(
        'retinanet',
        depth,
        base_channels,
        channels,
        pretrained,
        first_level=first_level,
        num_levels=num_levels,
        extra_convs='on_input',
    )
    head = {
        'type': 'RetinaHead',
        **_tower(num_classes, channels, stacked_convs),
        'anchor_generator': {
            'type': 'AnchorGenerator',
            'octave_base_scale': anchor_size,
            'scales_per_octave': 3,
            'ratios': [0.5, 1.0, 2.0],
            'strides': strides(first_level, num_levels),
        },
        'bbox_coder': delta_coder(1.0, 1.0),
        'loss_cls': _FOCAL,
        'loss_bbox': L1,
    }
    if not pretrained:
        head['norm_cfg'] = _group_norm(channels)
    train_cfg = {
        'assigner': iou_assigner(0.5, 0.4, 0),
        'sampler': {'type': 'PseudoSampler'},
        'allowed_border': -1,
        'pos_weight': -1,
        'debug': False,
    }
    return _detector('RetinaNet', body, head, 0.5, train_cfg=train_cfg)


def mobilenet_retinanet(
    num_classes: int,
    *,
    pretrained: str | None = None,
    **sizes: Any,  # noqa: ANN401 - as of retinanet
) -> dict:
    """Return an mmdet RetinaNet with a MobileNetV2 (Sandler et al., CVPR 2018) of the usual width.

    Args:
        num_classes: Number of classes.
        pretrained: Checkpoint of the backbone, whose batch norms then keep their statistics; None starts from random
            weights.
        sizes: The other arguments of :func:`retinanet` but those of the ResNet.

    Returns:
        Config with ``_scope_='mmdet'``.

    Raises:
        ConfigError: When there is no such first level.
    """
    config = retinanet(num_classes, pretrained=pretrained, **sizes)
    config['backbone'] = {
        'type': 'MobileNetV2',
        # Strides 4, 8, 16 and 32.
        'out_indices': (1, 2, 4, 7),
        'norm_eval': bool(pretrained),
        'init_cfg': pretrained_init(pretrained),
    }
    config['neck']['in_channels'] = [24, 32, 96, 1280]
    return config


def fcos(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    channels: int = 256,
    stacked_convs: int = 4,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet FCOS (Tian et al., ICCV 2019) with the authors' later improvements.

    These are centre sampling, regression in units of the stride, centre-ness on the regression branch, and the GIoU
    loss. mmdet's own config differs in the images' means and the backbone's form, which are Caffe's there.

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of pyramid and head, a multiple of 4.
        stacked_convs: Convolutions of each of the head's two branches.
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmdet'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    body = pyramid_body(
        'fcos', depth, base_channels, channels, pretrained, first_level=3, extra_convs='on_output'
    )
    body['neck']['relu_before_extra_convs'] = True
    head = {
        'type': 'FCOSHead',
        **_tower(num_classes, channels, stacked_convs),
        'norm_cfg': _group_norm(channels),
        'strides': strides(3, 5),
        'norm_on_bbox': True,
        'centerness_on_reg': True,
        'dcn_on_last_conv': False,
        'center_sampling': True,
        'conv_bias': True,
        'loss_cls': _FOCAL,
        'loss_bbox': {**_GIOU, 'loss_weight': 1.0},
        'loss_centerness': _CENTRENESS,
    }
    return _detector('FCOS', body, head, 0.6)


def atss(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    channels: int = 256,
    stacked_convs: int = 4,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet ATSS (Zhang et al., CVPR 2020); arguments, result and errors as of :func:`fcos`."""
    body = pyramid_body(
        'atss', depth, base_channels, channels, pretrained, first_level=3, extra_convs='on_output'
    )
    head = {
        'type': 'ATSSHead',
        **_tower(num_classes, channels, stacked_convs),
        'norm_cfg': _group_norm(channels),
        'anchor_generator': _ONE_ANCHOR,
        'bbox_coder': delta_coder(0.1, 0.2),
        'loss_cls': _FOCAL,
        'loss_bbox': _GIOU,
        'loss_centerness': _CENTRENESS,
    }
    return _detector('ATSS', body, head, 0.6, train_cfg=_ATSS)


def gfl(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    channels: int = 256,
    stacked_convs: int = 4,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet GFL (Li et al., NeurIPS 2020); arguments, result and errors as of :func:`fcos`."""
    body = pyramid_body(
        'gfl', depth, base_channels, channels, pretrained, first_level=3, extra_convs='on_output'
    )
    quality = {'type': 'QualityFocalLoss', 'use_sigmoid': True, 'beta': 2.0, 'loss_weight': 1.0}
    head = {
        'type': 'GFLHead',
        **_tower(num_classes, channels, stacked_convs),
        'norm_cfg': _group_norm(channels),
        'anchor_generator': _ONE_ANCHOR,
        'loss_cls': quality,
        'loss_dfl': {'type': 'DistributionFocalLoss', 'loss_weight': 0.25},
        'reg_max': 16,
        'loss_bbox': _GIOU,
    }
    return _detector('GFL', body, head, 0.6, train_cfg=_ATSS)


def _detector(kind: str, body: dict, head: dict, iou_threshold: float, **training: dict) -> dict:
    """Return the config of a detector; FCOS assigns by itself and has nothing to say of training."""
    config = {
        '_scope_': 'mmdet',
        'type': kind,
        'data_preprocessor': detector_preprocessor(),
        **body,
        'bbox_head': head,
        **training,
        'test_cfg': {
            'nms_pre': 1000,
            'min_bbox_size': 0,
            'score_thr': 0.05,
            'nms': {'type': 'nms', 'iou_threshold': iou_threshold},
            'max_per_img': 100,
        },
    }
    # The parts above are shared; a change to one config must not reach the next.
    return copy.deepcopy(config)


def _tower(num_classes: int, channels: int, stacked_convs: int) -> dict:
    return {
        'num_classes': num_classes,
        'in_channels': channels,
        'stacked_convs': stacked_convs,
        'feat_channels': channels,
    }


def _group_norm(channels: int) -> dict:
    return {'type': 'GN', 'num_groups': min(32, channels // 4), 'requires_grad': True}
