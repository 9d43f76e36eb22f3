"""Builders of plain mmseg configs of segmentors on four-stage transformers: SegFormer, and PVTv2 with a pyramid.

B0 of either family is
``embed_dims=32, depths=(2, 2, 2, 2)``, B2 is ``embed_dims=64, depths=(3, 4, 6, 3)``.
"""

from __future__ import annotations

from collections.abc import Sequence

from castkd.architectures.parts import (
    MEAN,
    STD,
    pixel_loss,
    pretrained_init,
    segmentor,
    segmentor_preprocessor,
)

_NUM_HEADS = (1, 2, 5, 8)


def stage_channels(embed_dims: int) -> tuple[int, ...]:
    """Return the width of the four stages of a transformer whose first stage is ``embed_dims`` wide."""
    return tuple(embed_dims * heads for heads in _NUM_HEADS)


def segformer(
    num_classes: int,
    *,
    embed_dims: int = 32,
    depths: Sequence[int] = (2, 2, 2, 2),
    channels: int = 256,
    drop_path_rate: float = 0.1,
    pretrained: str | None = None,
    class_weight: Sequence[float] | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    slide: int | None = None,
) -> dict:
    """Return an mmseg SegFormer (Xie et al., NeurIPS 2021).

    Args:
        num_classes: Number of classes; ignored pixels have index 255.
        embed_dims: Width of the first stage; the others are 2, 5 and 8 times as wide.
        depths: Blocks per stage.
        channels: Width of the decoder. mmseg has 256 for every size, the authors of SegFormer 768 from B2 on.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        pretrained: Checkpoint of the backbone; None starts from random weights.
        class_weight: Weight of each class in the cross-entropy, which is then a weighted mean.
        mean: Mean of the image normalisation, in RGB.
        std: Divisor of the image normalisation.
        slide: Side of the square windows that prediction slides over the image, three quarters at a time, in pixels;
            None predicts the image at once.

    Returns:
        Config with ``_scope_='mmseg'``.
    """
    return segmentor(
        **_images(mean, std, slide),
        backbone={
            'type': 'MixVisionTransformer',
            **_stages(embed_dims, depths, drop_path_rate, pretrained),
            'mlp_ratio': 4,
            'patch_sizes': [7, 3, 3, 3],
        },
        decode_head={
            'type': 'SegformerHead',
            'in_channels': list(stage_channels(embed_dims)),
            'channels': channels,
            'norm_cfg': {'type': 'BN'},
            **_head(num_classes, class_weight),
        },
    )


def pvt_v2_fpn(
    num_classes: int,
    *,
    embed_dims: int = 32,
    depths: Sequence[int] = (2, 2, 2, 2),
    neck_channels: int = 256,
    channels: int = 128,
    drop_path_rate: float = 0.1,
    pretrained: str | None = None,
    class_weight: Sequence[float] | None = None,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    slide: int | None = None,
) -> dict:
    """Return an mmseg segmentor of mmdet's PVTv2 (Wang et al., CVMJ 2022) and a semantic feature pyramid.

    Args:
        num_classes: Number of classes; ignored pixels have index 255.
        embed_dims: Width of the first stage; the others are 2, 5 and 8 times as wide.
        depths: Blocks per stage.
        neck_channels: Width of the feature pyramid.
        channels: Width of the head.
        drop_path_rate: Stochastic depth of the last block, in [0, 1).
        pretrained: Checkpoint of the backbone, of the authors' or of mmdet's form; None starts from random weights.
        class_weight: As of :func:`segformer`, like ``mean``, ``std`` and ``slide``.
        mean: Mean of the image normalisation, in RGB.
        std: Divisor of the image normalisation.
        slide: Side of the windows of prediction, or None.

    Returns:
        Config with ``_scope_='mmseg'``.
    """
    return segmentor(
        **_images(mean, std, slide),
        backbone={
            'type': 'mmdet.PyramidVisionTransformerV2',
            **_stages(embed_dims, depths, drop_path_rate, pretrained),
            'mlp_ratios': [8, 8, 4, 4],
        },
        neck={
            'type': 'FPN',
            'in_channels': list(stage_channels(embed_dims)),
            'out_channels': neck_channels,
            'num_outs': 4,
        },
        decode_head={
            'type': 'FPNHead',
            'in_channels': [neck_channels] * 4,
            'feature_strides': [4, 8, 16, 32],
            'channels': channels,
            **_head(num_classes, class_weight),
        },
    )


def _images(mean: Sequence[float], std: Sequence[float], slide: int | None) -> dict:
    """Return how images are normalised and how they are predicted."""
    test_cfg = None
    if slide is not None:
        stride = slide * 3 // 4
        test_cfg = {'mode': 'slide', 'crop_size': (slide, slide), 'stride': (stride, stride)}
    preprocessor = {**segmentor_preprocessor(), 'mean': list(mean), 'std': list(std)}
    return {'data_preprocessor': preprocessor, 'test_cfg': test_cfg}


def _stages(
    embed_dims: int, depths: Sequence[int], drop_path_rate: float, pretrained: str | None
) -> dict:
    return {
        'embed_dims': embed_dims,
        'num_layers': list(depths),
        'num_heads': list(_NUM_HEADS),
        'sr_ratios': [8, 4, 2, 1],
        'drop_path_rate': drop_path_rate,
        'init_cfg': pretrained_init(pretrained),
    }


def _head(num_classes: int, class_weight: Sequence[float] | None) -> dict:
    return {
        'in_index': [0, 1, 2, 3],
        'num_classes': num_classes,
        'dropout_ratio': 0.1,
        'align_corners': False,
        'loss_decode': pixel_loss(class_weight=class_weight),
    }
