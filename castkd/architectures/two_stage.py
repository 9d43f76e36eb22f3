"""Builders of plain mmdet configs of two-stage detectors with a ResNet and a feature pyramid.

At full size and with a pretrained backbone they are mmdet's own configs; from random weights see
:func:`castkd.architectures.pyramid.pyramid_body`.
"""

from __future__ import annotations

from typing import Any

from castkd.architectures.parts import detector_preprocessor
from castkd.architectures.pyramid import L1, delta_coder, iou_assigner, pyramid_body, strides

# The heads of the second stage read P2 to P5, the proposals come from P6 too.
_POOLED_LEVELS = 4


def faster_rcnn(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    channels: int = 256,
    fc_channels: int = 1024,
    anchor_size: float = 8,
    proposals: int = 1000,
    rois_per_image: int = 512,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet Faster R-CNN with a feature pyramid (Lin et al., CVPR 2017).

    Args:
        num_classes: Number of classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of pyramid and proposal head.
        fc_channels: Width of the two fully connected layers of the RoI head.
        anchor_size: Side of a level's square anchors, in strides.
        proposals: Proposals of an image at most, and of a level before suppression (in training twice as many). Small
            images with few objects need fewer.
        rois_per_image: How many of them the RoI head learns from.
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmdet'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    box_head = {
        'type': 'Shared2FCBBoxHead',
        'in_channels': channels,
        'fc_out_channels': fc_channels,
        'roi_feat_size': 7,
        'num_classes': num_classes,
        'bbox_coder': delta_coder(0.1, 0.2),
        'reg_class_agnostic': False,
        'loss_cls': {'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': 1.0},
        'loss_bbox': L1,
    }
    return {
        '_scope_': 'mmdet',
        'type': 'FasterRCNN',
        'data_preprocessor': detector_preprocessor(),
        **pyramid_body('faster_rcnn', depth, base_channels, channels, pretrained),
        'rpn_head': _rpn(channels, anchor_size),
        'roi_head': {
            'type': 'StandardRoIHead',
            'bbox_roi_extractor': _extractor(7, channels),
            'bbox_head': box_head,
        },
        'train_cfg': _training(proposals, rois_per_image),
        'test_cfg': {
            'rpn': _proposals(proposals, proposals),
            'rcnn': {
                'score_thr': 0.05,
                'nms': {'type': 'nms', 'iou_threshold': 0.5},
                'max_per_img': 100,
            },
        },
    }


def mask_rcnn(
    num_classes: int,
    *,
    channels: int = 256,
    mask_convs: int = 4,
    **sizes: Any,  # noqa: ANN401 - as of faster_rcnn
) -> dict:
    """Return an mmdet Mask R-CNN with a feature pyramid (He et al., ICCV 2017).

    Args:
        num_classes: Number of classes.
        channels: Width of pyramid, proposal head and mask head.
        mask_convs: Convolutions of the mask head, at least 1.
        sizes: The other arguments of :func:`faster_rcnn`.

    Returns:
        Config with ``_scope_='mmdet'``.

    Raises:
        ConfigError: When there is no such depth.
    """
    config = faster_rcnn(num_classes, channels=channels, **sizes)
    config['type'] = 'MaskRCNN'
    config['data_preprocessor'] = detector_preprocessor(masks=True)
    config['roi_head'] |= {
        'mask_roi_extractor': _extractor(14, channels),
        'mask_head': {
            'type': 'FCNMaskHead',
            'num_convs': mask_convs,
            'in_channels': channels,
            'conv_out_channels': channels,
            'num_classes': num_classes,
            'loss_mask': {'type': 'CrossEntropyLoss', 'use_mask': True, 'loss_weight': 1.0},
        },
    }
    config['train_cfg']['rcnn']['assigner']['match_low_quality'] = True
    config['train_cfg']['rcnn']['mask_size'] = 28
    config['test_cfg']['rcnn']['mask_thr_binary'] = 0.5
    return config


def _rpn(channels: int, anchor_size: float) -> dict:
    return {
        'type': 'RPNHead',
        'in_channels': channels,
        'feat_channels': channels,
        'anchor_generator': {
            'type': 'AnchorGenerator',
            'scales': [anchor_size],
            'ratios': [0.5, 1.0, 2.0],
            'strides': strides(2, _POOLED_LEVELS + 1),
        },
        'bbox_coder': delta_coder(1.0, 1.0),
        'loss_cls': {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0},
        'loss_bbox': L1,
    }


def _training(proposals: int, rois_per_image: int) -> dict:
    return {
        'rpn': {
            'assigner': iou_assigner(0.7, 0.3, 0.3, match_low_quality=True),
            'sampler': _sampler(256, 0.5, with_objects=False),
            'allowed_border': -1,
            'pos_weight': -1,
            'debug': False,
        },
        'rpn_proposal': _proposals(2 * proposals, proposals),
        'rcnn': {
            'assigner': iou_assigner(0.5, 0.5, 0.5, match_low_quality=False),
            'sampler': _sampler(rois_per_image, 0.25, with_objects=True),
            'pos_weight': -1,
            'debug': False,
        },
    }


def _sampler(count: int, positive: float, *, with_objects: bool) -> dict:
    return {
        'type': 'RandomSampler',
        'num': count,
        'pos_fraction': positive,
        'neg_pos_ub': -1,
        'add_gt_as_proposals': with_objects,
    }


def _proposals(before_nms: int, most: int) -> dict:
    return {
        'nms_pre': before_nms,
        'max_per_img': most,
        'nms': {'type': 'nms', 'iou_threshold': 0.7},
        'min_bbox_size': 0,
    }


def _extractor(size: int, channels: int) -> dict:
    return {
        'type': 'SingleRoIExtractor',
        'roi_layer': {'type': 'RoIAlign', 'output_size': size, 'sampling_ratio': 0},
        'out_channels': channels,
        'featmap_strides': strides(2, _POOLED_LEVELS),
    }
