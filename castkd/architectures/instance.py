"""Builders of plain mmdet model configs, so that a recipe names sizes instead of repeating a hundred lines.

A config file calls them (with ``_base_`` assigned first, as mmengine's plain config style asks). What
they return is an ordinary mmdet config without anything of castkd in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from castkd.architectures.parts import (
    BATCH_NORM,
    DEPTHS,
    SWIN_DEPTHS,
    detector_preprocessor,
    resnet,
    resnet_channels,
    swin,
)
from castkd.checks import check_choice


def mask2former(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    transformer: str | None = None,
    channels: int = 256,
    num_queries: int = 100,
    encoder_layers: int = 6,
    decoder_layers: int = 9,
    ffn_channels: int = 2048,
    num_points: int = 12544,
    norm_eval: bool = False,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet Mask2Former instance segmentor with a ResNet or a Swin transformer.

    The set loss is that of Cheng et al. (CVPR 2022): 2 * class + 5 * mask + 5 * dice, no-object weight 0.1.

    Args:
        num_classes: Number of thing classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        transformer: ``tiny`` or ``small`` for a Swin transformer of that size in place of the ResNet.
        channels: Width of pixel decoder and transformer decoder; a multiple of 32.
        num_queries: Number of queries.
        encoder_layers: Layers of the deformable pixel decoder.
        decoder_layers: Layers of the masked-attention decoder.
        ffn_channels: Width of the decoder's feed-forward layers; the pixel decoder's are half as wide.
        num_points: Points per mask in cost and loss.
        norm_eval: Whether the ResNet's batch norms keep their statistics (for a pretrained backbone).
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmdet'``.
    """
    check_choice('mask2former', 'depth', depth, DEPTHS)
    if transformer is not None:
        check_choice('mask2former', 'transformer', transformer, SWIN_DEPTHS)
        backbone, widths = swin(transformer, pretrained=pretrained), [96, 192, 384, 768]
    else:
        backbone = resnet(depth, base_channels, norm_eval=norm_eval, pretrained=pretrained)
        widths = resnet_channels(depth, base_channels)
    return {
        '_scope_': 'mmdet',
        'type': 'Mask2Former',
        'data_preprocessor': detector_preprocessor(masks=True),
        'backbone': backbone,
        'panoptic_head': {
            'type': 'Mask2FormerHead',
            'in_channels': widths,
            'strides': [4, 8, 16, 32],
            'feat_channels': channels,
            'out_channels': channels,
            'num_things_classes': num_classes,
            'num_stuff_classes': 0,
            'num_queries': num_queries,
            'num_transformer_feat_level': 3,
            'pixel_decoder': _pixel_decoder(channels, encoder_layers, ffn_channels // 2),
            'enforce_decoder_input_project': False,
            'positional_encoding': {'num_feats': channels // 2, 'normalize': True},
            'transformer_decoder': _transformer_decoder(channels, decoder_layers, ffn_channels),
            **_set_losses(num_classes),
        },
        'panoptic_fusion_head': {
            'type': 'MaskFormerFusionHead',
            'num_things_classes': num_classes,
            'num_stuff_classes': 0,
            'loss_panoptic': None,
            'init_cfg': None,
        },
        'train_cfg': _train_cfg(num_points),
        'test_cfg': {
            'panoptic_on': False,
            'semantic_on': False,
            'instance_on': True,
            'max_per_image': min(100, num_queries * num_classes),
            'iou_thr': 0.8,
            'filter_low_score': True,
        },
    }


def solov2(
    num_classes: int,
    *,
    depth: int = 50,
    base_channels: int = 64,
    channels: int = 256,
    stacked_convs: int = 4,
    num_grids: Sequence[int] = (40, 36, 24, 16, 12),
    scale_ranges: Sequence[tuple[int, int]] = (
        (1, 96),
        (48, 192),
        (96, 384),
        (192, 768),
        (384, 2048),
    ),
    smallest: Sequence[int] = (8, 8, 16, 32, 32),
    area_targets: bool = False,
    mask_thr: float = 0.5,
    max_per_image: int = 100,
    norm_eval: bool = False,
    pretrained: str | None = None,
) -> dict:
    """Return an mmdet SOLOv2 instance segmentor with a ResNet and a feature pyramid.

    Losses are those of Wang et al. (NeurIPS 2020): 3 * dice + focal. Its grid cells are supervised densely, without
    matching: from random weights it learns in hundreds of steps what a set prediction needs thousands for.

    Args:
        num_classes: Number of thing classes.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of pyramid and head, a multiple of 8.
        stacked_convs: Convolutions of the head's two branches.
        num_grids: Cells per side, per level of the pyramid (4 or 5 levels), fine to coarse.
        scale_ranges: Object sizes per level: square root of the box area, in pixels of the network's input.
        smallest: Areas per level, in pixels of the mask features (stride 4): masks that are not larger are never
            predicted. The default, of the authors' code, is too much for objects of less than 12 x 12 pixels.
        area_targets: Whether masks are taught as areas, see :class:`~castkd.heads.AreaSOLOV2Head`.
        mask_thr: Probability from which a pixel belongs to a mask. Areas, enlarged, lie below 0.5 at the rim of a small
            object: with ``area_targets`` it takes about 0.45 to keep its size.
        max_per_image: Instances per image.
        norm_eval: Whether the ResNet's batch norms keep their statistics (for a pretrained backbone).
        pretrained: Checkpoint of the backbone; None starts from random weights.

    Returns:
        Config with ``_scope_='mmdet'``.
    """
    check_choice('solov2', 'depth', depth, DEPTHS)
    check_choice('solov2', 'number of num_grids', len(num_grids), (4, 5))
    for name, values in (('scale_ranges', scale_ranges), ('smallest', smallest[: len(num_grids)])):
        check_choice('solov2', f'number of {name}', len(values), (len(num_grids),))
    return {
        '_scope_': 'mmdet',
        'type': 'SOLOv2',
        'data_preprocessor': detector_preprocessor(masks=True),
        'backbone': resnet(depth, base_channels, norm_eval=norm_eval, pretrained=pretrained),
        'neck': {
            'type': 'FPN',
            'in_channels': resnet_channels(depth, base_channels),
            'out_channels': channels,
            'num_outs': len(num_grids),
            # Random weights need norms in the pyramid, whose maps are summed.
            'norm_cfg': None if pretrained else BATCH_NORM,
        },
        'mask_head': _grid_head(
            num_classes, channels, stacked_convs, num_grids, scale_ranges, smallest, area_targets
        ),
        'test_cfg': {
            'nms_pre': 500,
            'score_thr': 0.1,
            'mask_thr': mask_thr,
            'filter_thr': 0.05,
            'kernel': 'gaussian',
            'sigma': 2.0,
            'max_per_img': max_per_image,
        },
    }


def _grid_head(
    num_classes: int,
    channels: int,
    stacked_convs: int,
    num_grids: Sequence[int],
    scale_ranges: Sequence[tuple[int, int]],
    smallest: Sequence[int],
    area_targets: bool,
) -> dict:
    norm = {'type': 'GN', 'num_groups': min(32, channels // 4)}
    return {
        'type': 'castkd.AreaSOLOV2Head' if area_targets else 'SOLOV2Head',
        'num_classes': num_classes,
        'in_channels': channels,
        'feat_channels': channels,
        'stacked_convs': stacked_convs,
        # mmdet names them so; all that is done with them is to drop smaller masks.
        'strides': list(smallest[: len(num_grids)]),
        'scale_ranges': [tuple(pair) for pair in scale_ranges],
        'num_grids': list(num_grids),
        'cls_down_index': 0,
        'mask_feature_head': {
            'feat_channels': channels // 2,
            'start_level': 0,
            'end_level': 3,
            'out_channels': channels,
            'mask_stride': 4,
            'norm_cfg': norm,
        },
        'norm_cfg': norm,
        'loss_mask': {'type': 'DiceLoss', 'use_sigmoid': True, 'loss_weight': 3.0},
        'loss_cls': {
            'type': 'FocalLoss',
            'use_sigmoid': True,
            'gamma': 2.0,
            'alpha': 0.25,
            'loss_weight': 1.0,
        },
    }


def _transformer_decoder(channels: int, layers: int, hidden: int) -> dict:
    attention = {'embed_dims': channels, 'num_heads': 8, 'dropout': 0.0, 'batch_first': True}
    return {
        'return_intermediate': True,
        'num_layers': layers,
        'layer_cfg': {
            'self_attn_cfg': attention,
            'cross_attn_cfg': attention,
            'ffn_cfg': _ffn(channels, hidden),
        },
        'init_cfg': None,
    }


def _ffn(channels: int, hidden: int) -> dict:
    return {
        'embed_dims': channels,
        'feedforward_channels': hidden,
        'num_fcs': 2,
        'ffn_drop': 0.0,
        'act_cfg': {'type': 'ReLU', 'inplace': True},
    }


def _pixel_decoder(channels: int, layers: int, hidden: int) -> dict:
    return {
        'type': 'MSDeformAttnPixelDecoder',
        'num_outs': 3,
        'norm_cfg': {'type': 'GN', 'num_groups': min(32, channels // 2)},
        'act_cfg': {'type': 'ReLU'},
        'encoder': {
            'num_layers': layers,
            'layer_cfg': {
                'self_attn_cfg': {
                    'embed_dims': channels,
                    'num_heads': 8,
                    'num_levels': 3,
                    'num_points': 4,
                    'dropout': 0.0,
                    'batch_first': True,
                },
                'ffn_cfg': _ffn(channels, hidden),
            },
        },
        'positional_encoding': {'num_feats': channels // 2, 'normalize': True},
    }


def _set_losses(num_classes: int) -> dict:
    return {
        'loss_cls': {
            'type': 'CrossEntropyLoss',
            'use_sigmoid': False,
            'loss_weight': 2.0,
            'reduction': 'mean',
            'class_weight': [1.0] * num_classes + [0.1],
        },
        'loss_mask': {
            'type': 'CrossEntropyLoss',
            'use_sigmoid': True,
            'reduction': 'mean',
            'loss_weight': 5.0,
        },
        'loss_dice': {
            'type': 'DiceLoss',
            'use_sigmoid': True,
            'activate': True,
            'reduction': 'mean',
            'naive_dice': True,
            'eps': 1.0,
            'loss_weight': 5.0,
        },
    }


def _train_cfg(num_points: int) -> dict:
    return {
        'num_points': num_points,
        'oversample_ratio': 3.0,
        'importance_sample_ratio': 0.75,
        'assigner': {
            'type': 'HungarianAssigner',
            'match_costs': [
                {'type': 'ClassificationCost', 'weight': 2.0},
                {'type': 'CrossEntropyLossCost', 'weight': 5.0, 'use_sigmoid': True},
                {'type': 'DiceCost', 'weight': 5.0, 'pred_act': True, 'eps': 1.0},
            ],
        },
        'sampler': {'type': 'MaskPseudoSampler'},
    }
