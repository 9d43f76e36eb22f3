"""Modules that go with an exported student: copies of castkd's own that know nothing of castkd."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from castkd.files import write_file
from castkd.version import __version__

#: Name of the package beside an exported config.
PACKAGE = 'student_modules'

# Types that are copied, by name; what these modules import from castkd goes with them.
_MODULES = {'DINOv2Backbone': 'castkd.backbones.dinov2', 'DPTPixelDecoder': 'castkd.heads.dpt'}
_IMPORT = re.compile(r'^( *from )(castkd[\w.]*)( import )', re.MULTILINE)
_REGISTRY = 'castkd.registry'

#: What stands before the exported config then.
HEADER = f"""# The modules of this model lie beside this file, in {PACKAGE}.
import sys

sys.path.append('{{{{ fileDirname }}}}')
custom_imports = dict(imports=['{PACKAGE}'], allow_failed_imports=False)
"""


def plain_name(kind: object) -> object:
    """Return a type as the copies register it, without scope; any other type as it is."""
    name = str(kind).removeprefix('castkd.')
    return name if name in _MODULES else kind


def portable_modules(config: Any) -> list[str]:  # noqa: ANN401 - any value of a config
    """Return the modules of castkd that a config's types need, sorted.

    Args:
        config: A config whose types are those of :func:`plain_name`.
    """
    return sorted({_MODULES[name] for name in _types(config) if name in _MODULES})


def _types(value: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, Mapping):
        if 'type' in value:
            yield str(value['type'])
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _types(item)


def write_modules(folder: Path, modules: Sequence[str]) -> Path:
    """Write a package with copies of modules and of what they import from castkd.

    The copies register their types in mmengine's registry, where mmdet and mmseg find them without a scope.

    Args:
        folder: Where the package is made.
        modules: Names of modules.

    Returns:
        The package's folder.
    """
    package = folder / PACKAGE
    package.mkdir()
    sources = _with_imports(modules)
    for name, text in sources.items():
        write_file(package / f'{_short(name)}.py', _copied(name, text))
    names = ', '.join(sorted(_short(name) for name in modules))
    write_file(
        package / '__init__.py',
        f'"""Modules of a student that castkd {__version__} exported (Apache-2.0)."""\n\n'
        f'from {PACKAGE} import {names}  # noqa: F401 - registers their types\n',
    )
    return package


def _with_imports(modules: Sequence[str]) -> dict[str, str]:
    """Return the text of modules and of all that they import from castkd, by name."""
    sources: dict[str, str] = {}
    left = list(modules)
    while left:
        name = left.pop()
        if name not in sources:
            text = Path(importlib.util.find_spec(name).origin).read_text(encoding='utf-8')
            sources[name] = text
            left += [found for _, found, _ in _IMPORT.findall(text) if found != _REGISTRY]
    return sources


def _short(name: str) -> str:
    return name.rpartition('.')[2]


def _copied(name: str, text: str) -> str:
    def rewritten(match: re.Match) -> str:
        before, module, after = match.groups()
        target = 'mmengine.registry' if module == _REGISTRY else f'{PACKAGE}.{_short(module)}'
        return f'{before}{target}{after}'

    # A process may load two exports.
    text = text.replace('@MODELS.register_module()', '@MODELS.register_module(force=True)')
    return f'# A copy of {name}, castkd {__version__}.\n{_IMPORT.sub(rewritten, text)}'


@contextmanager
def fresh_modules(folder: Path) -> Iterator[None]:
    """Forget the package of an earlier export while the one in ``folder`` is read, and that one afterwards."""
    _forget()
    try:
        yield
    finally:
        _forget()
        shutil.rmtree(folder / PACKAGE / '__pycache__', ignore_errors=True)
        sys.path[:] = [entry for entry in sys.path if entry != str(folder)]


def _forget() -> None:
    for name in [name for name in sys.modules if name.split('.')[0] == PACKAGE]:
        del sys.modules[name]
