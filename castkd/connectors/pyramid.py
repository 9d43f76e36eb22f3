"""What connectors of several stages check of the tensors they are given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from castkd.checks import check_number
from castkd.errors import ConfigError


def check_widths(
    owner: str, student_channels: Sequence[int], teacher_channels: Sequence[int]
) -> None:
    """Raise :class:`ConfigError` unless both name a positive width for each of the same stages."""
    if len(student_channels) != len(teacher_channels) or not student_channels:
        raise ConfigError(
            f'{owner}: student_channels and teacher_channels must name the width of the same stages, got '
            f'{tuple(student_channels)} and {tuple(teacher_channels)}'
        )
    for name, widths in (
        ('student_channels', student_channels),
        ('teacher_channels', teacher_channels),
    ):
        for stage, width in enumerate(widths):
            check_number(owner, f'{name}[{stage}]', width, low=1, integer=True)


def check_maps(owner: str, maps: Sequence[Tensor], channels: Sequence[int]) -> None:
    """Raise :class:`ConfigError` unless there is a map (B, C_i, h, w) for every width C_i of ``channels``."""
    _check_count(owner, 'feature maps', len(maps), len(channels))
    for stage, (value, width) in enumerate(zip(maps, channels, strict=True), start=1):
        if value.dim() != 4 or value.shape[1] != width:
            raise ConfigError(
                f'{owner}: the map of stage {stage} must be (B, {width}, h, w), got {tuple(value.shape)}; '
                'check the channels and the taps'
            )


def check_tokens(owner: str, tokens: Sequence[Tensor], channels: Sequence[int]) -> None:
    """Raise :class:`ConfigError` unless there are tokens (B, N, C_i) for every width C_i of ``channels``."""
    _check_count(owner, 'token tensors', len(tokens), len(channels))
    for stage, (value, width) in enumerate(zip(tokens, channels, strict=True), start=1):
        if value.dim() != 3 or value.shape[2] != width:
            raise ConfigError(
                f'{owner}: the tokens of stage {stage} must be (B, N, {width}), got {tuple(value.shape)}; '
                'check the channels and the taps'
            )


def _check_count(owner: str, kind: str, count: int, wanted: int) -> None:
    if count != wanted:
        raise ConfigError(f'{owner}: {wanted} {kind} are wanted, one per stage, got {count}')
