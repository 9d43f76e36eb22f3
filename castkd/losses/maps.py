"""What losses on maps share: checks, precision, resizing, and labels on the maps' grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from castkd.errors import ConfigError


def widen(tensor: Tensor) -> Tensor:
    """Return half-precision values as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def resize_maps(maps: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Resize maps (B, C, h, w) to ``size``, bilinear, at least in float32."""
    # As single-channel images: with many channels torch takes a path that is ten times slower on CPU.
    single = widen(maps).flatten(0, 1).unsqueeze(1)
    resized = F.interpolate(single, size=size, mode='bilinear', align_corners=align_corners)
    return resized.squeeze(1).unflatten(0, maps.shape[:2])


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize label maps (B, H, W) to ``size``, long; the pixel at the centre of the new one decides."""
    # Labels are small numbers, which float32 holds exactly. Plain 'nearest' reads the upper left corner.
    return F.interpolate(labels[:, None].float(), size=size, mode='nearest-exact')[:, 0].long()


def paired(
    owner: str,
    student: Tensor,
    teacher: Tensor,
    *,
    same_channels: bool = True,
    same_grid: bool = True,
    names: tuple[str, str] = ('student', 'teacher'),
) -> tuple[Tensor, Tensor]:
    """Check two maps, and return them in full precision, the teacher's without gradient.

    Args:
        owner: Name of the loss, for the error.
        student: (B, C, h, w).
        teacher: (B, C, h, w); (B, D, ...) without ``same_channels``, (B, ..., h', w') without ``same_grid``.
        same_channels: Whether both need the same number of channels.
        same_grid: Whether both need the same height and width.
        names: What the error calls the two maps.

    Returns:
        Both maps, float32 where they were of half precision.

    Raises:
        ConfigError: When a shape is wrong.
    """
    for name, value in zip(names, (student, teacher), strict=True):
        if value.dim() != 4:
            raise ConfigError(f'{owner}: {name} must be (B, C, h, w), got {tuple(value.shape)}')
    channels = student.shape[1]
    if same_channels and teacher.shape[1] != channels:
        raise ConfigError(
            f'{owner}: {names[0]} has {channels} channels and {names[1]} {teacher.shape[1]}; logits need the same '
            'classes in both networks, features a connector such as castkd.ConvConnector'
        )
    own, other = (
        (len(value), *value.shape[2:]) if same_grid else (len(value),)
        for value in (student, teacher)
    )
    if own != other:
        what, todo = (
            ('batch and grid', 'tap maps of the same stride or resize one')
            if same_grid
            else ('batch', 'give both the same view')
        )
        raise ConfigError(
            f'{owner}: {names[1]} must have {what} {own} like {names[0]}, got {other}; {todo}'
        )
    return widen(student), widen(teacher.detach())


def labels_on_grid(owner: str, target: Tensor, student: Tensor) -> Tensor:
    """Return label maps on the grid of a map; the nearest pixel decides.

    Args:
        owner: Name of the loss, for the error.
        target: Labels (B, H, W), integers.
        student: Map (B, C, h, w).

    Returns:
        Labels (B, h, w), long.

    Raises:
        ConfigError: When shape or type of ``target`` is wrong.
    """
    if target.dim() != 3 or len(target) != len(student) or target.is_floating_point():
        raise ConfigError(
            f'{owner}: target must be ({len(student)}, H, W) integers, got {tuple(target.shape)} {target.dtype}'
        )
    return resize_labels(target, student.shape[2:])
