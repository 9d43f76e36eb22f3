"""Hand over the student as a plain mmdet or mmseg model."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from castkd.apis.portable import (
    HEADER,
    PACKAGE,
    fresh_modules,
    plain_name,
    portable_modules,
    write_modules,
)
from castkd.apis.predictor import Predictor, changes_labels
from castkd.apis.student import load_student, prediction_dataset, read_config, student_config
from castkd.checkpoints import sha256, student_state
from castkd.errors import CheckpointError, ConfigError, DataError
from castkd.files import write_file
from castkd.version import __version__

CONFIG_NAME = 'student.py'
CHECKPOINT_NAME = 'student.pth'

# castkd types with an mm one in their place (they add checks, or matter in training only), and the keys it lacks.
PLAIN_TYPES = {
    'castkd.LoadImage': ('LoadImageFromFile', ()),
    'castkd.LoadSemanticAnnotations': ('LoadAnnotations', ('num_classes', 'palette')),
    'castkd.AreaSOLOV2Head': ('SOLOV2Head', ()),
    'castkd.OHEMCrossEntropy': ('CrossEntropyLoss', ('threshold', 'min_kept')),
}


def export_student(
    config: str | Path | Config,
    checkpoint: str | Path,
    out_dir: str | Path,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, Path]:
    """Write the student's config and weights for a project without castkd, and prove that they are the student.

    ``student.py`` holds the model, the test and validation data and their evaluators; ``student.pth`` the weights under
    the plain model's names, the class names and colours, and where they come from. Before the two files appear in
    ``out_dir`` they are read back, loaded strictly into a new model, and its predictions on a random image are compared
    bit by bit with those of the student.

    Transforms of castkd that concern labels alone are left out. Without ``castkd.LabelsAtStride`` predictions have the
    size of the image, and that is where the exported config scores them.

    A student with parts that mmdet does not have (DINOv2) comes with copies of their modules in a third thing, the
    folder ``student_modules``, which the config puts on Python's path; it must stay beside the config.

    Args:
        config: Config of a distiller or of a plain mmdet or mmseg model.
        checkpoint: Its checkpoint.
        out_dir: Folder for the two files.
        cfg_options: New config values by dotted key.

    Returns:
        ``config`` and ``checkpoint``: the two files; ``modules``: the folder, where there is one.

    Raises:
        ConfigError: When the student needs a part that only castkd has and that is none of those.
        CheckpointError: When the checkpoint is missing, damaged, unsafe or of another model, or the proof fails.
        DataError: When the folder is not writable or the disk is full.
    """
    student = student_config(read_config(config, cfg_options))
    model, content = load_student(student, checkpoint)
    plain = plain_config(student, model.dataset_meta)
    modules = portable_modules(plain.to_dict())
    meta = content.get('meta') or {}
    exported = {
        'meta': {
            **{key: meta[key] for key in ('epoch', 'iter') if key in meta},
            'dataset_meta': model.dataset_meta,
            'cfg': (f'{HEADER}\n' if modules else '') + _text(plain),
            'castkd': {
                **(meta.get('castkd') or {}),
                'exported_with': __version__,
                'exported_from': Path(checkpoint).name,
                'exported_from_sha256': sha256(checkpoint),
            },
        },
        'state_dict': student_state(content),
    }
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.export-', dir=folder) as draft:
            files = _write(Path(draft), modules, exported)
            with fresh_modules(Path(draft)):
                _verify(files, Predictor(model, student))
            shutil.rmtree(folder / PACKAGE, ignore_errors=True)
            for file in files.values():
                os.replace(file, folder / file.name)
    except OSError as error:
        raise DataError(
            f'export: cannot write to {str(folder)!r} ({error.strerror or error}); choose another folder'
        ) from error
    return {key: folder / file.name for key, file in files.items()}


def plain_config(student: Config, dataset_meta: Mapping[str, Any]) -> Config:
    """Return a config that a project without castkd understands.

    Args:
        student: From :func:`~castkd.apis.student.student_config`; stays as it is.
        dataset_meta: ``classes`` and ``palette``.

    Raises:
        ConfigError: When a part has no counterpart outside castkd.
    """
    kept = {
        key: value
        for key, value in student.items()
        if key not in ('custom_imports', 'work_dir', 'launcher')
    }
    plain = Config(_plain(kept))
    for loader in ('test_dataloader', 'val_dataloader'):
        if loader in plain:
            dataset = prediction_dataset(plain, loader)
            dataset.metainfo = {key: value for key, value in dataset_meta.items() if value}
    # mmseg's inference reads the pipeline here.
    plain.test_pipeline = prediction_dataset(plain).pipeline
    left = [f'{key}={value}' for key, value in _castkd_types(plain)]
    if left:
        raise ConfigError(
            f'the student cannot run without castkd, it uses {", ".join(left)}; '
            'use mm parts there, or ship the checkpoint with castkd'
        )
    return plain


def _plain(value: Any) -> Any:  # noqa: ANN401 - any value of a config
    """Return a copy with castkd's stand-ins replaced, without steps for labels alone and files of first weights."""
    if isinstance(value, Mapping):
        copy = {key: _plain(item) for key, item in value.items()}
        if copy.get('type') in PLAIN_TYPES:
            copy['type'], own_keys = PLAIN_TYPES[copy['type']]
            copy = {key: item for key, item in copy.items() if key not in own_keys}
        if 'type' in copy:
            copy['type'] = plain_name(copy['type'])
        first_weights = copy.get('init_cfg')
        if isinstance(first_weights, Mapping) and first_weights.get('type') == 'Pretrained':
            copy['init_cfg'] = None
        return copy
    if isinstance(value, (list, tuple)):
        kept = (item for item in value if not _is_left_out(item))
        return type(value)(_plain(item) for item in kept)
    return value


def _is_left_out(item: Any) -> bool:  # noqa: ANN401 - any value of a config
    return isinstance(item, Mapping) and changes_labels(item)


def _castkd_types(value: Any, key: str = '') -> Iterator[tuple[str, str]]:  # noqa: ANN401
    """Yield dotted key and name of every type of castkd."""
    if isinstance(value, (Mapping, Config)):
        for name, item in value.items():
            dotted = f'{key}.{name}' if key else str(name)
            text = item if isinstance(item, str) else getattr(item, '__module__', '')
            if name in ('type', '_scope_') and str(text).split('.')[0] == 'castkd':
                yield dotted, str(item)
            yield from _castkd_types(item, dotted)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _castkd_types(item, f'{key}.{index}')


def _text(config: Config) -> str:
    """Return the config as Python text that reads back the same.

    Raises:
        ConfigError: When a value has no text form.
    """
    try:
        text = config.pretty_text
        same = Config.fromstring(text, '.py').to_dict() == config.to_dict()
    except (SyntaxError, NameError, TypeError, ValueError):
        same = False
    if not same:
        raise ConfigError(
            'export: the config cannot be written as text; a value in it is no plain number, string, list or dict'
        )
    return text


def _write(folder: Path, modules: list[str], exported: Mapping[str, Any]) -> dict[str, Path]:
    files = {'config': folder / CONFIG_NAME, 'checkpoint': folder / CHECKPOINT_NAME}
    buffer = io.BytesIO()
    torch.save(exported, buffer)
    write_file(files['config'], exported['meta']['cfg'])
    write_file(files['checkpoint'], buffer.getvalue())
    if modules:
        files['modules'] = write_modules(folder, modules)
    return files


def _verify(files: Mapping[str, Path], student: Predictor) -> None:
    """Read the export back and compare it with the student.

    Raises:
        CheckpointError: When something differs.
    """
    read = Config.fromfile(files['config'])
    model, _ = load_student(read, files['checkpoint'])
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    wanted = student.predict_images([image])[0]
    found = Predictor(model, read).predict_images([image])[0]
    different = [
        key for key, value in _tensors(wanted) if not _same(value, dict(_tensors(found)).get(key))
    ]
    if different:
        raise CheckpointError(
            f'export: predictions of the exported student differ in {", ".join(different)}; nothing was written'
        )


def _tensors(sample: Any) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401 - data samples of all mm packages
    """Yield every predicted tensor of a data sample by name."""
    for name, element in sample.items():
        for key, value in element.items():
            if torch.is_tensor(value):
                yield f'{name}.{key}', value


def _same(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and torch.equal(first, second)
