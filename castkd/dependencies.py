"""A look at the OpenMMLab packages before anything imports them."""

from __future__ import annotations

import importlib.util
import re
import runpy
from pathlib import Path

from castkd.errors import CastkdError

#: Oldest usable version per import name. mmengine 0.10.7 cannot resume on torch >= 2.6.
MINIMUM = {'mmengine': '0.10.12', 'mmcv': '2.3', 'mmdet': '3.5'}


class DependencyError(CastkdError, ImportError):
    """An OpenMMLab package is missing, too old, or lacks its compiled operators."""


def check_dependencies() -> None:
    """Check that the OpenMMLab packages are there, without importing them.

    Raises:
        DependencyError: When one is missing, too old or incomplete; it says how to install them.
    """
    problems = [problem for name in MINIMUM if (problem := _problem(name))]
    if problems:
        raise DependencyError(
            f"castkd: {'; '.join(problems)}. Install the maintained packages in castkd's folder: "
            "make env, or pip install -e '.[mm]' --no-build-isolation"
        )


def _problem(name: str) -> str:
    """Return what is wrong with package ``name``, or an empty text."""
    try:
        spec = importlib.util.find_spec(name)
        folder = Path(spec.origin).parent
        # The version file alone: importing mmcv loads torch, which takes seconds.
        version = runpy.run_path(str(folder / 'version.py'))['__version__']
    except (ImportError, AttributeError, TypeError, OSError):
        return f'{name} is not installed'
    if _numbers(version) < _numbers(MINIMUM[name]):
        return f'{name} {version} is too old (needed: {MINIMUM[name]})'
    if name == 'mmcv' and not any(folder.glob('_ext.*')):
        return 'mmcv is installed without its compiled operators'
    return ''


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r'\d+', version)[:3]]
