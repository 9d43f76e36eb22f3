"""Validators with one message form: who, which argument, what is allowed, what was received."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from castkd.errors import ConfigError, DataError, near_names


def check_choice(owner: str, name: str, value: object, allowed: Collection[str]) -> None:
    """Raise :class:`ConfigError` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        hint = near_names(value, allowed) if isinstance(value, str) else ''
        raise ConfigError(
            f'{owner}: {name} must be one of {sorted(allowed)}, got {value!r}. {hint}'.strip()
        )


def check_number(
    owner: str,
    name: str,
    value: object,
    *,
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    high_open: bool = False,
    integer: bool = False,
) -> None:
    """Raise :class:`ConfigError` unless ``value`` is a real number inside the interval.

    Args:
        owner: The class or tool that checks.
        name: The argument's name.
        value: What was received.
        low: Lower end, or None for none.
        high: Upper end, or None for none.
        low_open: Whether the lower end itself is refused.
        high_open: Whether the upper end itself is refused.
        integer: Whether only whole numbers of type int pass.
    """
    kinds = int if integer else (int, float)
    left = '(' if low_open or low is None else '['
    right = ')' if high_open or high is None else ']'
    kind = 'an integer' if integer else 'a number'
    wanted = f'{kind} in {left}{"-inf" if low is None else low}, {"inf" if high is None else high}{right}'
    fits = isinstance(value, kinds) and not isinstance(value, bool) and value == value
    if fits and low is not None:
        fits = value > low if low_open else value >= low
    if fits and high is not None:
        fits = value < high if high_open else value <= high
    if not fits:
        raise ConfigError(f'{owner}: {name} must be {wanted}, got {value!r}')


def check_file(owner: str, name: str, path: str | Path, todo: str = 'check the path') -> Path:
    """Return ``path`` as a Path, or raise :class:`DataError` when no such file exists."""
    path = Path(path)
    if not path.is_file():
        kind = 'is a folder, not a file' if path.is_dir() else 'does not exist'
        raise DataError(f'{owner}: {name} {str(path)!r} {kind}; {todo}')
    return path


def check_folder(owner: str, name: str, path: str | Path, todo: str = 'check the path') -> Path:
    """Return ``path`` as a Path, or raise :class:`DataError` when no such folder exists."""
    path = Path(path)
    if not path.is_dir():
        kind = 'is a file, not a folder' if path.is_file() else 'does not exist'
        raise DataError(f'{owner}: {name} {str(path)!r} {kind}; {todo}')
    return path
