"""Numbers that follow the training step.

They are pure functions of the step, so a resumed run goes on where it was.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields

from castkd.checks import check_number
from castkd.errors import ConfigError, near_names


class Schedule(ABC):
    """A number per training step; subclasses are immutable and hold no state."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the value at ``step``, counted from 0."""

    def _check_finite(self, *names: str) -> None:
        for name in names:
            check_number(
                type(self).__name__,
                name,
                getattr(self, name),
                low=-math.inf,
                high=math.inf,
                low_open=True,
                high_open=True,
            )


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value at every step.

    Attributes:
        value: The value.

    Raises:
        ConfigError: When the value is not a finite number.
    """

    value: float

    def __post_init__(self) -> None:
        """Check the value."""
        self._check_finite('value')

    def __call__(self, step: int) -> float:
        """Return the value."""
        return float(self.value)


@dataclass(frozen=True)
class Linear(Schedule):
    """A line from ``start`` (step ``begin``) to ``end`` (step ``begin + steps``), level outside.

    Attributes:
        start: Value up to step ``begin``.
        end: Value from step ``begin + steps`` on.
        steps: Length of the line in steps, at least 1.
        begin: Step at which the line starts, at least 0.

    Raises:
        ConfigError: When an attribute is outside its range.

    Example:
        >>> Linear(0.3, 0.07, steps=90000)(45000)
        0.185
    """

    start: float
    end: float
    steps: int
    begin: int = 0

    def __post_init__(self) -> None:
        """Check the attributes."""
        self._check_finite('start', 'end')
        check_number('Linear', 'steps', self.steps, low=1, integer=True)
        check_number('Linear', 'begin', self.begin, low=0, integer=True)

    def __call__(self, step: int) -> float:
        """Return the value at ``step``."""
        done = min(max((step - self.begin) / self.steps, 0.0), 1.0)
        return self.start * (1.0 - done) + self.end * done


@dataclass(frozen=True)
class HalfLife(Schedule):
    """An approach to ``end`` whose distance halves every ``half_life`` steps.

    Attributes:
        start: Value at step 0.
        end: Value that is approached and never reached.
        half_life: Steps after which half of the distance is left, above 0.

    Raises:
        ConfigError: When an attribute is outside its range.

    Example:
        >>> round(HalfLife(0.4, 0.07, half_life=90000)(90000), 6)
        0.235
    """

    start: float
    end: float
    half_life: float

    def __post_init__(self) -> None:
        """Check the attributes."""
        self._check_finite('start', 'end', 'half_life')
        check_number('HalfLife', 'half_life', self.half_life, low=0, low_open=True)

    def __call__(self, step: int) -> float:
        """Return the value at ``step``."""
        return self.end + (self.start - self.end) * 0.5 ** (step / self.half_life)


@dataclass(frozen=True)
class Window(Schedule):
    """A constant value inside a window of steps and zero outside.

    Attributes:
        value: Value at steps ``begin <= step < end``.
        begin: First step of the window, at least 0.
        end: First step after the window, above ``begin``; None for no end.

    Raises:
        ConfigError: When an attribute is outside its range.

    Example:
        >>> [Window(2.0, begin=1, end=3)(step) for step in range(4)]
        [0.0, 2.0, 2.0, 0.0]
    """

    value: float
    begin: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        """Check the attributes."""
        self._check_finite('value')
        check_number('Window', 'begin', self.begin, low=0, integer=True)
        if self.end is not None:
            check_number('Window', 'end', self.end, low=self.begin, low_open=True, integer=True)

    def __call__(self, step: int) -> float:
        """Return the value at ``step``."""
        inside = step >= self.begin and (self.end is None or step < self.end)
        return float(self.value) if inside else 0.0


SCHEDULES = {kind.__name__: kind for kind in (Constant, Linear, HalfLife, Window)}


def build_schedule(value: float | Mapping | Schedule, owner: str = 'schedule') -> Schedule:
    """Make a schedule from what a config may hold.

    Args:
        value: A number (constant), a dict with ``type`` and the schedule's attributes, or a
            schedule.
        owner: Who asks and for which key, for the error text.

    Returns:
        The schedule.

    Raises:
        ConfigError: When the type or a key is unknown (near names are listed), a key is missing, or
            a value is outside its range.

    Example:
        >>> build_schedule(dict(type='Linear', start=0.3, end=0.07, steps=90000))(90000)
        0.07
    """
    if isinstance(value, Schedule):
        return value
    if isinstance(value, Mapping):
        return _from_dict(dict(value), owner)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(
            f'{owner}: must be a number or a dict with type in {sorted(SCHEDULES)}, got {value!r}'
        )
    return _guarded(Constant, {'value': value}, owner)


def _from_dict(options: dict, owner: str) -> Schedule:
    name = options.pop('type', None)
    if name not in SCHEDULES:
        hint = near_names(str(name), SCHEDULES)
        raise ConfigError(f'{owner}: no schedule of type {name!r}; {hint}')
    kind = SCHEDULES[name]
    known = [item.name for item in fields(kind)]
    for key in options:
        if key not in known:
            raise ConfigError(f'{owner}: {name} has no key {key!r}; {near_names(str(key), known)}')
    missing = [f.name for f in fields(kind) if f.default is MISSING and f.name not in options]
    if missing:
        raise ConfigError(f'{owner}: {name} needs the key {missing[0]!r}; it takes {known}')
    return _guarded(kind, options, owner)


def _guarded(kind: type[Schedule], options: dict, owner: str) -> Schedule:
    try:
        return kind(**options)
    except ConfigError as error:
        raise ConfigError(f'{owner}: {error}') from None
