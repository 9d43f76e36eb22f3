"""What castkd does, as functions: train, study, test, label images, merge labels, export a student ...

They are imported when they are first asked for, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

# Function -> module of this package that holds it.
_FUNCTIONS = {
    'train': 'train',
    'test': 'test',
    'generate_pseudo_labels': 'pseudo_label',
    'export_student': 'export_student',
    'merge_labels': 'merge_labels',
    'save_first_weights': 'first_weights',
    'study': 'study',
}

__all__ = [
    'export_student',
    'generate_pseudo_labels',
    'merge_labels',
    'save_first_weights',
    'study',
    'test',
    'train',
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any function of the package
    """Import a function when it is first asked for."""
    if name not in _FUNCTIONS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = importlib.import_module(f'{__name__}.{_FUNCTIONS[name]}')
    return getattr(module, name)


class _FunctionsFirst(ModuleType):
    """The package; importing a submodule that is called like its function leaves the function in place."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _FUNCTIONS.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _FunctionsFirst
