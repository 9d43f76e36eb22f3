"""Package metadata; every version number comes from ``requirements/`` and ``castkd/version.py``."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Return the requirement lines of ``requirements/<name>.txt``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def version() -> str:
    """Return the version without importing castkd, whose dependencies may not be there yet."""
    names: dict[str, str] = {}
    exec((ROOT / 'castkd' / 'version.py').read_text(encoding='utf-8'), names)
    return names['__version__']


setup(
    name='castkd',
    version=version(),
    description='Semi-supervised distillation for dense prediction in OpenMMLab',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['castkd', 'castkd.*']),
    package_data={'castkd.visualization': ['templates/*.html']},
    install_requires=requirements('torch'),
    # The mm packages stay in an extra: older mmengine/mmcv/mmdet distributions own the same import
    # directories, and castkd must not install one line over the other.
    extras_require={name: requirements(name) for name in ('mm', 'vfm', 'dev')},
)
