"""Maps of class indices: what ignored pixels are called, and how logits become labels with a confidence."""

from __future__ import annotations

from torch import Tensor

from castkd.errors import ConfigError

#: Index of a pixel without a class. It is a mark, never a place in a table.
IGNORE = 255


def most_likely(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the most likely class of every pixel and its probability.

    Args:
        logits: (C, H, W), unnormalised, at least two classes.

    Returns:
        Class indices (H, W), int64, and softmax probabilities (H, W), float32, in [1 / C, 1].

    Raises:
        ConfigError: When there is one channel only, which has no softmax.
    """
    if logits.shape[0] < 2:
        raise ConfigError(
            'a segmentor with one output channel gives no class probabilities; set out_channels of its decode_head to '
            'its number of classes (2 for foreground and background)'
        )
    scores, labels = logits.float().softmax(0).max(0)
    return labels, scores


def padded_shape(sample: object) -> tuple[int, int]:
    """Return height and width of the network's input that an image of a batch lies in, padding included.

    Args:
        sample: Data sample after preprocessing, of mmdet or mmseg.
    """
    meta = sample.metainfo
    if 'batch_input_shape' in meta:
        return tuple(meta['batch_input_shape'][:2])
    height, width = meta['img_shape'][:2]
    left, right, top, bottom = meta.get('padding_size', (0, 0, 0, 0))
    return height + top + bottom, width + left + right


def ignore_padding(labels: Tensor, sample: object) -> Tensor:
    """Set to 255 what a batch was padded with, in place; what a transform of the pipeline padded counts as image.

    Args:
        labels: Class indices (H, W) of the network's input.
        sample: Data sample after preprocessing; padding lies to the right of its ``img_shape`` and below.

    Returns:
        ``labels``.
    """
    height, width = sample.metainfo['img_shape'][:2]
    labels[height:] = IGNORE
    labels[:, width:] = IGNORE
    return labels
