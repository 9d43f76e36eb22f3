"""``{variable}`` and ``{stage.output}`` in the strings of a recipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from castkd.errors import ConfigError, near_names

# Braces without a name in them ('iter_{}.pth', r'\d{2}') are ordinary text.
_REFERENCE = re.compile(r'\{([A-Za-z_][\w-]*)(?:\.([A-Za-z_]\w*))?\}')

Lookup = Callable[[str, 'str | None', str], Any]


def substitute(value: Any, lookup: Lookup, where: str = '') -> Any:  # noqa: ANN401 - config values
    """Replace the references in all strings of a nested value.

    Args:
        value: Dicts, lists and tuples of anything; only strings change.
        lookup: Gets name, output (None for ``{name}``) and the dotted key of the string; returns the value.
        where: Dotted key of ``value`` itself.

    Returns:
        A copy. A string that is exactly one reference becomes the looked-up value with its type; references inside a
        longer string become text.
    """
    if isinstance(value, Mapping):
        return {
            key: substitute(item, lookup, f'{where}.{key}' if where else str(key))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        items = [substitute(item, lookup, f'{where}.{index}') for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if not isinstance(value, str):
        return value
    whole = _REFERENCE.fullmatch(value)
    if whole:
        return lookup(whole[1], whole[2], where)
    return _REFERENCE.sub(lambda match: str(lookup(match[1], match[2], where)), value)


@dataclass
class Scope:
    """What the references of one stage may name.

    Attributes:
        variables: Value per variable of the recipe.
        outputs: Output names per earlier stage.
        later: Names of this stage and those after it.
        stage: Name of this stage, for error texts.
        used: Filled while references are looked up: (stage, output) pairs in order of use.
    """

    variables: Mapping[str, Any]
    outputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    later: tuple[str, ...] = ()
    stage: str = ''
    used: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, name: str, output: str | None, where: str) -> Any:  # noqa: ANN401 - any variable
        """Return a variable's value, or a reference to a stage's output as it stands.

        Raises:
            ConfigError: When the name does not exist or belongs to a later stage; near names are listed.
        """
        key = f'{self.stage}: {where}' if self.stage else where
        if output is None and name in self.variables:
            return self._variable(name, key)
        text = f'{{{name}}}' if output is None else f'{{{name}.{output}}}'
        if output is not None and name in self.outputs:
            if output not in self.outputs[name]:
                hint = near_names(output, self.outputs[name])
                raise ConfigError(f'{key}: stage {name!r} has no output {output!r}; {hint}')
            if (name, output) not in self.used:
                self.used.append((name, output))
            return text
        if name in self.later:
            raise ConfigError(
                f'{key}: {text} refers to stage {name!r}, which does not run before this one; '
                'order the recipe so that it does'
            )
        if name in self.outputs:
            wanted = ', '.join(f'{{{name}.{item}}}' for item in self.outputs[name])
            raise ConfigError(
                f'{key}: {text} names no output of stage {name!r}; use one of {wanted}'
            )
        raise ConfigError(f'{key}: unknown reference {text}; {self._known(name)}')

    def _known(self, name: str) -> str:
        known = [*self.variables, *self.outputs]
        if not known:
            return 'this config has no recipe that could give it a value'
        return near_names(name, known)

    def _variable(self, name: str, key: str, above: tuple[str, ...] = ()) -> Any:  # noqa: ANN401
        if name in above:
            raise ConfigError(f'{key}: variable {name!r} refers to itself')

        def lookup(inner: str, output: str | None, where: str) -> Any:  # noqa: ANN401
            if output is None and inner in self.variables:
                return self._variable(inner, key, (*above, name))
            return self(inner, output, where)

        return substitute(self.variables[name], lookup, name)
