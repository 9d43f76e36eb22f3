"""The manifest of a recipe: which stage was made from what, and what it gave."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from castkd.checkpoints import sha256
from castkd.errors import DataError
from castkd.files import write_file

MANIFEST = 'recipe.json'
FORMAT = 1
PENDING, RUNNING, DONE = 'pending', 'running', 'done'
_PACKAGES = (
    'castkd',
    'torch',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmdetection',
    'onedl-mmsegmentation',
)
_INPUT_SUFFIXES = ('.json', '.txt', '.pth', '.pt', '.safetensors')

# Keys that say where and how a run is watched, not what it computes.
_COSMETIC_TOP = frozenset(
    {
        'work_dir',
        'resume',
        'launcher',
        'log_level',
        'log_processor',
        'visualizer',
        'vis_backends',
        'experiment_name',
        'env_cfg',
        'report',
    }
)
_COSMETIC_LOADER = frozenset({'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'})
_COSMETIC_HOOKS = frozenset({'logger', 'timer', 'checkpoint', 'visualization'})
_COSMETIC_HOOK_TYPES = frozenset({'castkd.Pictures', 'castkd.StageMetrics'})


@dataclass
class StageRecord:
    """What the manifest knows about one stage.

    Attributes:
        kind: Kind of the stage.
        state: ``pending``, ``running`` or ``done``.
        config_sha256: Hash of what determines the result, see :func:`config_text`.
        inputs: SHA-256 per referred file: ``stage.output`` for outputs of earlier stages, a path otherwise.
        outputs: ``{'path': relative to the work directory, 'sha256': ...}`` per output name.
        metrics: Numbers of the last validation.
        seconds: Wall time of all processes that worked on the stage; one that was killed counts until its last file.
        resumed: How often the stage was taken up again after a break.
        iterations: Training iterations.
        parameters: Parameters of the network that the stage trains.
        images: Number of images per source of the training data.
        versions: Version per package.
        started: When the last of these processes began, in seconds since 1970.
    """

    kind: str
    state: str = PENDING
    config_sha256: str = ''
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: int = 0
    iterations: int = 0
    parameters: int = 0
    images: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    started: float = 0.0


@dataclass
class Manifest:
    """The stages of one work directory, kept in ``recipe.json``.

    Attributes:
        work_dir: Folder of the manifest.
        recipe: Path of the recipe config.
        variables: The recipe's variables.
        stages: Record per stage name.
    """

    work_dir: Path
    recipe: str = ''
    variables: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, StageRecord] = field(default_factory=dict)

    @classmethod
    def load(cls, work_dir: str | Path) -> Manifest:
        """Read the manifest of a work directory, an empty one when there is none.

        Raises:
            DataError: When the file is damaged or of another version of castkd.
        """
        manifest = cls(Path(work_dir))
        path = manifest.work_dir / MANIFEST
        if not path.is_file():
            return manifest
        known = {item.name for item in fields(StageRecord)}
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            if content['format'] != FORMAT:
                raise ValueError(f'format {content["format"]}, expected {FORMAT}')
            manifest.recipe = content['recipe']
            manifest.variables = content['variables']
            for name, entry in content['stages'].items():
                unknown = set(entry) - known
                if unknown:
                    raise ValueError(f'unknown key {min(unknown)!r} in stage {name!r}')
                manifest.stages[name] = StageRecord(**entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f'{str(path)!r} is no manifest of this version of castkd ({error}); use another --work-dir'
            ) from error
        return manifest

    def save(self) -> None:
        """Write the manifest, whole or not at all.

        Raises:
            DataError: When the folder cannot be written or its disk is full.
        """
        content = {
            'format': FORMAT,
            'recipe': self.recipe,
            'variables': self.variables,
            'stages': {name: asdict(record) for name, record in self.stages.items()},
        }
        text = json.dumps(content, indent=2, default=str) + '\n'
        write_file(self.work_dir / MANIFEST, text)

    def output(self, stage: str, name: str) -> Path | None:
        """Return the path of an output of a finished stage, None when there is none."""
        record = self.stages.get(stage)
        if record is None or record.state != DONE or name not in record.outputs:
            return None
        return self.work_dir / record.outputs[name]['path']

    def set_outputs(self, stage: str, outputs: Mapping[str, Path]) -> None:
        """Record the outputs of a stage with their checksums."""
        self.stages[stage].outputs = {
            name: {'path': os.path.relpath(path, self.work_dir), 'sha256': sha256(path)}
            for name, path in outputs.items()
        }

    def damaged_output(self, stage: str) -> str | None:
        """Return what is wrong with the outputs of a stage, None when all are as they were written."""
        for name, output in self.stages[stage].outputs.items():
            path = self.work_dir / output['path']
            if not path.is_file():
                return f'its {name} {str(path)!r} is missing'
            if sha256(path) != output['sha256']:
                return f'its {name} {str(path)!r} is not the file it wrote (other checksum)'
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that training depends on."""
    found = {'python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def config_text(config: Mapping[str, Any]) -> str:
    """Return what of a config determines the result, as canonical JSON.

    Left out: work directory, logging, pictures, loader processes, how often checkpoints are written. Reordered keys and
    tuples in place of lists change nothing.
    """
    return json.dumps(_essential(config), indent=1, sort_keys=True, default=_plain)


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def changed_keys(old: str, new: str) -> list[str]:
    """Return the dotted keys in which two texts of :func:`config_text` differ, with old and new values, shortened."""
    return [
        f'{key} ({_short(before)} -> {_short(after)})'
        for key, (before, after) in differences(old, new).items()
    ]


def differences(old: str, new: str) -> dict[str, tuple[str, str]]:
    """Return old and new value as text by dotted key in which two texts of :func:`config_text` differ."""
    before, after = dict(_flat(json.loads(old))), dict(_flat(json.loads(new)))
    return {
        key: (_text(before, key), _text(after, key))
        for key in sorted({*before, *after})
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    }


def input_files(config: Mapping[str, Any]) -> dict[str, Path]:
    """Return the annotation, split and checkpoint files that a config names and that exist, by path.

    Names relative to a ``data_root`` beside them are found too. Image files are not listed.
    """
    return {str(path): path for path in _named_files(config, '')}


def _named_files(value: Any, root: str) -> Iterable[Path]:  # noqa: ANN401 - config values
    if isinstance(value, Mapping):
        root = str(value.get('data_root') or root)
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _named_files(item, root)
    elif isinstance(value, str) and value.endswith(_INPUT_SUFFIXES):
        candidates = (Path(value), Path(root, value))
        yield from [path for path in candidates if path.is_file()][:1]


_ABSENT = object()


def _text(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else 'absent'


def _short(text: str) -> str:
    return text if len(text) <= 60 else f'{text[:57]}...'


def _flat(value: Any, prefix: str = '') -> Iterable[tuple[str, Any]]:  # noqa: ANN401 - JSON values
    if isinstance(value, dict) and value:
        pairs = value.items()
    elif isinstance(value, list) and value:
        pairs = enumerate(value)
    else:
        yield prefix, value
        return
    for key, item in pairs:
        yield from _flat(item, f'{prefix}.{key}' if prefix else str(key))


def _essential(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in _COSMETIC_TOP}
    for key, value in kept.items():
        if key.endswith('dataloader') and isinstance(value, Mapping):
            kept[key] = _without(value, _COSMETIC_LOADER)
        elif key == 'default_hooks' and isinstance(value, Mapping):
            kept[key] = _without(value, _COSMETIC_HOOKS)
        elif key == 'custom_hooks' and isinstance(value, (list, tuple)):
            kept[key] = [hook for hook in value if not _is_cosmetic_hook(hook)]
    return kept


def _is_cosmetic_hook(hook: object) -> bool:
    return isinstance(hook, Mapping) and hook.get('type') in _COSMETIC_HOOK_TYPES


def _without(value: Mapping[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key not in keys}


def _plain(value: object) -> str:
    name = getattr(value, '__qualname__', None)
    return f'{value.__module__}.{name}' if name else str(value)
