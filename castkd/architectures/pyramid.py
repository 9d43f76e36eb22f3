"""What the builders of detectors with a ResNet and a feature pyramid share."""

from __future__ import annotations

from castkd.architectures.parts import BATCH_NORM, DEPTHS, resnet, resnet_channels
from castkd.checks import check_choice

L1 = {'type': 'L1Loss', 'loss_weight': 1.0}


def pyramid_body(
    owner: str,
    depth: int,
    base_channels: int,
    channels: int,
    pretrained: str | None,
    *,
    first_level: int = 2,
    num_levels: int = 5,
    extra_convs: str | None = None,
) -> dict:
    """Return ``backbone`` and ``neck`` of a detector.

    With a pretrained backbone they are as mmdet has them: first stage and batch norms are frozen, the pyramid has no
    norms. From random weights the whole backbone trains, its norms follow the data, and the pyramid gets norms.

    Args:
        owner: Name of the builder, for errors.
        depth: ResNet depth: 18, 34, 50 or 101.
        base_channels: Width of the ResNet's first stage.
        channels: Width of the pyramid.
        pretrained: Checkpoint of the backbone; None starts from random weights.
        first_level: Finest level of the pyramid, of stride 2 ** first_level.
        num_levels: Levels of the pyramid.
        extra_convs: How levels beyond the ResNet's are made, see mmdet's ``FPN``; None pools the last one.

    Raises:
        ConfigError: When there is no such depth.
    """
    check_choice(owner, 'depth', depth, DEPTHS)
    neck = {
        'type': 'FPN',
        'in_channels': resnet_channels(depth, base_channels),
        'out_channels': channels,
        'num_outs': num_levels,
    }
    if extra_convs:
        neck |= {'start_level': first_level - 2, 'add_extra_convs': extra_convs}
    if not pretrained:
        # Maps of random weights are summed.
        neck['norm_cfg'] = BATCH_NORM
    backbone = resnet(
        depth,
        base_channels,
        norm_eval=bool(pretrained),
        frozen_stages=1 if pretrained else -1,
        pretrained=pretrained,
    )
    return {'backbone': backbone, 'neck': neck}


def strides(first_level: int, num_levels: int) -> list[int]:
    """Return the strides of a pyramid."""
    return [2 ** (first_level + level) for level in range(num_levels)]


def delta_coder(centre: float, side: float) -> dict:
    """Return the usual coder of boxes; ``centre`` and ``side`` are the units of the four regressed numbers."""
    return {
        'type': 'DeltaXYWHBBoxCoder',
        'target_means': [0.0, 0.0, 0.0, 0.0],
        'target_stds': [centre, centre, side, side],
    }


def iou_assigner(positive: float, negative: float, least: float, **options: bool) -> dict:
    """Return the assignment of anchors by overlap: at least ``positive``, below ``negative``, best ones ``least``."""
    return {
        'type': 'MaxIoUAssigner',
        'pos_iou_thr': positive,
        'neg_iou_thr': negative,
        'min_pos_iou': least,
        'ignore_iof_thr': -1,
        **options,
    }
