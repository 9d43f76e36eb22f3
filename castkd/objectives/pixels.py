"""What objectives of segmentors share: labels per pixel of the network's input, weights and a check of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.losses.maps import resize_maps
from castkd.teachers import Teacher


def aligned_corners(
    trained: Mapping[str, nn.Module], teachers: Mapping[str, Teacher]
) -> dict[str, bool]:
    """Return per network whether its (last) decode head resizes logits with aligned corners; False where it has none.

    Args:
        trained: Student and peers by name.
        teachers: Teachers by name.
    """
    networks = {**trained, **{name: teacher.model for name, teacher in teachers.items()}}
    found = {}
    for name, network in networks.items():
        head = getattr(network, 'decode_head', None)
        last = head[-1] if isinstance(head, nn.ModuleList) else head
        found[name] = getattr(last, 'align_corners', False)
    return found


@torch.no_grad()
def hard_labels(logits: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Return the most likely class per pixel of the input.

    Args:
        logits: (B, C, h, w), what a decode head gives at its own stride.
        size: Height and width of the input.
        align_corners: How logits are resized, see :func:`aligned_corners`.

    Returns:
        (B, H, W), int64.
    """
    return resize_maps(logits, size, align_corners).argmax(dim=1)


def weights_of_classes(owner: str, class_weight: Sequence[float] | None) -> Tensor | None:
    """Return the weights of classes as a tensor (C,); None when there are none.

    Raises:
        ConfigError: When one is no number of at least 0, or all are 0.
    """
    if class_weight is None:
        return None
    for index, value in enumerate(class_weight):
        check_number(owner, f'class_weight[{index}]', value, low=0)
    if not any(class_weight):
        raise ConfigError(f'{owner}: class_weight has no number above 0, nothing would be learnt')
    return torch.tensor(class_weight, dtype=torch.float32)


def check_same_classes(owner: str, network: str, logits: Tensor, student: Tensor) -> None:
    """Check that a network's logits (B, C, h, w) have the student's classes.

    Raises:
        ConfigError: When their numbers differ.
    """
    if logits.shape[1] != student.shape[1]:
        raise ConfigError(
            f'{owner}: {network!r} has {logits.shape[1]} classes and the student {student.shape[1]}; all must have '
            'the same, in the same order'
        )
