"""Taps: named tensors read from a forward pass by module path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn

from castkd.errors import ConfigError, near_names

_PATTERN = re.compile(r'(?P<module>[\w.]+)(?P<side>:input|:output)?(?P<index>(\[-?\d+\])*)')

_MARK = 'records_a_tap'


@dataclass(frozen=True)
class Tap:
    """One tensor of a forward pass.

    Attributes:
        path: The text it was parsed from, such as ``backbone[3]`` or ``decode_head.conv_seg:input``.
        module: Dotted path of the module inside the network.
        reads_input: Whether the module's first input is read instead of its output.
        indices: Element of the output, outermost first.
    """

    path: str
    module: str
    reads_input: bool
    indices: tuple[int, ...]

    @classmethod
    def parse(cls, path: str) -> Tap:
        """Read a tap path.

        Raises:
            ConfigError: When the text is not a tap path.
        """
        match = _PATTERN.fullmatch(path)
        if match is None:
            raise ConfigError(
                f'tap {path!r} is not of the form module.path, module.path[index] or module.path:input'
            )
        indices = tuple(int(text) for text in re.findall(r'-?\d+', match['index']))
        return cls(path, match['module'], match['side'] == ':input', indices)

    def resolve(self, network: nn.Module) -> nn.Module:
        """Return the tapped module of ``network``.

        Raises:
            ConfigError: When no such module exists; the text lists near names.
        """
        try:
            return network.get_submodule(self.module)
        except AttributeError:
            hint = near_names(self.module, (name for name, _ in network.named_modules() if name))
            raise ConfigError(
                f'tap {self.path!r}: {type(network).__name__} has no module {self.module!r}; {hint}'
            ) from None

    def pick(self, value: Any) -> Any:  # noqa: ANN401 - modules return anything
        """Return the element of a module's output that the indices name.

        Raises:
            ConfigError: When the output has no such element.
        """
        for index in self.indices:
            try:
                value = value[index]
            except (IndexError, KeyError, TypeError) as error:
                size = len(value) if hasattr(value, '__len__') else 'one'
                raise ConfigError(
                    f'tap {self.path!r}: index {index} is outside the output of {size} elements'
                ) from error
        return value


@contextmanager
def record_taps(network: nn.Module, paths: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Record taps of ``network`` while the context is open.

    Args:
        network: The network that will run inside the context.
        paths: Tap paths.

    Yields:
        A dict that holds the value per path once the network has run. A module that runs several times (a head shared
        by pyramid levels) gives the list of its values.

    Raises:
        ConfigError: When a path does not exist, or when the run did not reach it.
    """
    calls: dict[str, list] = {path: [] for path in paths}
    handles = []
    for path in paths:
        tap = Tap.parse(path)
        module = tap.resolve(network)
        handles.append(module.register_forward_hook(_hook(tap, calls[path])))
    values: dict[str, Any] = {}
    try:
        yield values
    finally:
        for handle in handles:
            handle.remove()
    for path, found in calls.items():
        if not found:
            raise ConfigError(
                f'tap {path!r} of {type(network).__name__} was not reached by the pass; '
                'tap a module that the network calls, or a child of the head'
            )
        values[path] = found[0] if len(found) == 1 else found


def _hook(tap: Tap, found: list) -> Any:  # noqa: ANN401 - hook signature of torch
    def read(_module: nn.Module, inputs: tuple, output: Any) -> None:  # noqa: ANN401
        found.append(tap.pick(inputs[0] if tap.reads_input else output))

    setattr(read, _MARK, True)
    return read


def is_tapped(module: nn.Module) -> bool:
    """Tell whether a tap is being recorded on a module or on one of its children."""
    return any(
        hasattr(hook, _MARK) for child in module.modules() for hook in child._forward_hooks.values()
    )
