"""What several builders of model configs share."""

from __future__ import annotations

from collections.abc import Sequence

#: Mean and divisor of ImageNet's pixels, RGB in [0, 255].
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
BATCH_NORM = {'type': 'BN', 'requires_grad': True}
#: Depths of a ResNet.
DEPTHS = (18, 34, 50, 101)
SWIN_DEPTHS = {'tiny': (2, 2, 6, 2), 'small': (2, 2, 18, 2)}


def resnet_channels(depth: int, base_channels: int) -> list[int]:
    """Return the width of the four stages of a ResNet whose first stage is ``base_channels`` wide."""
    expansion = 1 if depth in (18, 34) else 4
    return [base_channels * expansion * 2**level for level in range(4)]


def resnet(
    depth: int,
    base_channels: int,
    *,
    norm_eval: bool,
    pretrained: str | None,
    frozen_stages: int = -1,
) -> dict:
    """Return an mmdet ResNet with its four stages; ``norm_eval`` keeps the statistics of its batch norms."""
    return {
        'type': 'ResNet',
        'depth': depth,
        'base_channels': base_channels,
        'num_stages': 4,
        'out_indices': (0, 1, 2, 3),
        'frozen_stages': frozen_stages,
        'norm_cfg': BATCH_NORM,
        'norm_eval': norm_eval,
        'style': 'pytorch',
        'init_cfg': pretrained_init(pretrained),
    }


def swin(size: str, *, pretrained: str | None) -> dict:
    """Return an mmdet Swin transformer (Liu et al., ICCV 2021), ``tiny`` or ``small``, with its four stages."""
    return {
        'type': 'SwinTransformer',
        'embed_dims': 96,
        'depths': SWIN_DEPTHS[size],
        'num_heads': (3, 6, 12, 24),
        'window_size': 7,
        'drop_path_rate': 0.3,
        'out_indices': (0, 1, 2, 3),
        # Published files have the names of the authors' code.
        'convert_weights': True,
        'init_cfg': pretrained_init(pretrained),
    }


def pretrained_init(checkpoint: str | None) -> dict | None:
    """Return the ``init_cfg`` of a backbone that starts from a checkpoint; None starts from random weights."""
    return {'type': 'Pretrained', 'checkpoint': checkpoint} if checkpoint else None


def detector_preprocessor(*, masks: bool = False) -> dict:
    """Return mmdet's image preprocessing with the means of ImageNet; ``masks`` pads instance masks with the images."""
    padding = {'pad_mask': True, 'mask_pad_value': 0} if masks else {}
    return {
        'type': 'DetDataPreprocessor',
        'mean': list(MEAN),
        'std': list(STD),
        'bgr_to_rgb': True,
        'pad_size_divisor': 32,
        **padding,
    }


def segmentor_preprocessor() -> dict:
    """Return mmseg's image preprocessing with the means of ImageNet; batches are padded to their largest image."""
    return {
        'type': 'SegDataPreProcessor',
        'mean': list(MEAN),
        'std': list(STD),
        'bgr_to_rgb': True,
        'pad_val': 0,
        'seg_pad_val': 255,
        'size_divisor': 1,
    }


def segmentor(*, test_cfg: dict | None = None, **parts: dict | list) -> dict:
    """Return mmseg's ``EncoderDecoder`` with these parts, which predicts whole images unless ``test_cfg`` says more."""
    return {
        '_scope_': 'mmseg',
        'type': 'EncoderDecoder',
        'data_preprocessor': segmentor_preprocessor(),
        'train_cfg': {},
        'test_cfg': test_cfg or {'mode': 'whole'},
        **parts,
    }


def pixel_loss(weight: float = 1.0, class_weight: Sequence[float] | None = None) -> dict:
    """Return mmseg's cross-entropy, averaged over the pixels that have a class; its default counts the others too.

    Args:
        weight: Factor of the loss.
        class_weight: Weight of each class; the average is then weighted too.
    """
    loss = {'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': weight}
    if class_weight is None:
        return {**loss, 'avg_non_ignore': True}
    # mmseg then divides by the summed weights of the pixels that have a class, and fails if told to.
    return {**loss, 'avg_non_ignore': False, 'class_weight': list(class_weight)}
