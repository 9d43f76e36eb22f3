"""The plain model in a config and a checkpoint: of a distiller its student, of any other config the model itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

import castkd.registry  # noqa: F401 - makes the scope known
from castkd.checkpoints import load_checkpoint, load_strict, student_state
from castkd.engine import recipe
from castkd.errors import CastkdError, CheckpointError, ConfigError, in_words

# What a config says about running a trained model; everything else is about training.
KEPT_KEYS = (
    'default_scope',
    'custom_imports',
    'model',
    'val_cfg',
    'val_dataloader',
    'val_evaluator',
    'test_cfg',
    'test_dataloader',
    'test_evaluator',
    'env_cfg',
    'visualizer',
    'log_processor',
    'log_level',
    'launcher',
    'work_dir',
)


def read_config(
    config: str | Path | Config, cfg_options: Mapping[str, Any] | None = None
) -> Config:
    """Read a config and change what the options name.

    Args:
        config: File, or a config that is copied.
        cfg_options: New values by dotted key.

    Raises:
        ConfigError: When the file is missing or no config, or an option does not fit.
    """
    read = copy.deepcopy(config) if isinstance(config, Config) else recipe.read_config(config)
    recipe.merge_options(read, cfg_options or {}, 'cfg-options')
    if 'model' not in read:
        raise ConfigError(
            f"config {read.filename!r} has no 'model'; give the config of a model or a stage, not a recipe"
        )
    return read


def student_config(config: Config) -> Config:
    """Return the part of a config that is needed to run the plain model.

    Args:
        config: Config of a distiller or of a plain model; stays as it is.

    Returns:
        A config whose ``model`` is the plain one, with its image preprocessing inside, and without training.
    """
    plain = Config(
        {key: copy.deepcopy(config[key]) for key in KEPT_KEYS if key in config},
        filename=config.filename,
    )
    preprocessor = config.get('data_preprocessor')
    if 'student' in config.model:
        # The distiller wraps the preprocessing of one view for all views.
        preprocessor = config.model.get('data_preprocessor') or preprocessor
        preprocessor = preprocessor and preprocessor.get('data_preprocessor', preprocessor)
        plain.model = copy.deepcopy(config.model.student)
    plain.default_scope = plain.model.pop('_scope_', plain.get('default_scope') or 'mmdet')
    if preprocessor:
        plain.model.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
    visualization = config.get('default_hooks', {}).get('visualization')
    if visualization:
        plain.default_hooks = {'visualization': copy.deepcopy(visualization)}
    for phase in ('val', 'test'):
        if f'{phase}_evaluator' in plain:
            # mmengine's default loop; configs often keep it beside the schedule.
            plain.setdefault(f'{phase}_cfg', {})
    return plain


def prediction_dataset(config: Config, loader: str = 'test_dataloader') -> ConfigDict:
    """Return the config of a loader's innermost dataset, the one with a pipeline.

    Raises:
        ConfigError: When there is none.
    """
    for dataset in _datasets((config.get(loader) or {}).get('dataset') or {}):
        if 'pipeline' in dataset:
            return dataset
    raise ConfigError(
        f'config {config.filename!r} has no {loader}.dataset.pipeline; it says how images are read'
    )


def _datasets(dataset: Mapping) -> Iterator[Mapping]:
    yield dataset
    for inner in (dataset.get('dataset'), *dataset.get('datasets', ())):
        if inner:
            yield from _datasets(inner)


def load_student(config: Config, checkpoint: str | Path) -> tuple[nn.Module, dict]:
    """Build the plain model of a config and load it strictly.

    Args:
        config: From :func:`student_config`.
        checkpoint: A distiller's checkpoint, a plain model's or an exported student.

    Returns:
        The model in eval mode on the CPU, with ``dataset_meta``, and the content of the checkpoint.

    Raises:
        CheckpointError: When the file is missing, damaged, unsafe, of another model or of other classes.
        ConfigError: When the model cannot be built.
    """
    content = load_checkpoint(checkpoint)
    model = build_model(config)
    load_strict(model, student_state(content), str(checkpoint))
    model.dataset_meta = dataset_meta(config, content, str(checkpoint))
    return model.eval(), content


def build_model(config: Config) -> nn.Module:
    """Build the model of a config in the config's scope.

    Raises:
        ConfigError: When a type or an argument is wrong.
    """
    with building(config, 'model'):
        return MODELS.build(config.model)


@contextmanager
def building(config: Config, what: str) -> Iterator[None]:
    """Build parts in the scope of a config; what fails to build is an error of the config.

    Args:
        config: From :func:`student_config`.
        what: What is built, for the error message.

    Raises:
        ConfigError: When a type or an argument is wrong.
    """
    try:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            yield
    except CastkdError:
        raise
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f'config {config.filename!r}: {what} cannot be built: {in_words(error)}'
        ) from error


def dataset_meta(config: Config, checkpoint: Mapping[str, Any], source: str) -> dict:
    """Return class names and colours, from the checkpoint or, when it has none, from the test dataset.

    Args:
        config: From :func:`student_config`.
        checkpoint: Content of the checkpoint.
        source: Name of the checkpoint, for the error message.

    Returns:
        ``classes`` (tuple of str) and ``palette`` (list of RGB tuples, or None).

    Raises:
        CheckpointError: When the checkpoint was trained on other classes than those of the test dataset.
    """
    dataset = prediction_dataset(config)
    with building(config, 'test_dataloader.dataset'):
        # Lazy: no annotation is read.
        own = DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True}).metainfo
    stored = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    stored = {key.lower(): value for key, value in stored.items()}
    classes = tuple(stored.get('classes') or own['classes'])
    expected = tuple(own.get('classes') or classes)
    if classes != expected:
        raise CheckpointError(
            f'{source!r} was trained on classes {_shown(classes)} but the test dataset has {_shown(expected)}; '
            'use the config that it was made with, or set metainfo.classes of the test dataset'
        )
    return {'classes': classes, 'palette': _palette(len(classes), stored, own)}


def _palette(number: int, *metas: Mapping[str, Any]) -> list[tuple[int, ...]] | None:
    """Return the first palette with a colour for every class; mm datasets keep theirs when the classes are others."""
    for meta in metas:
        palette = meta.get('palette')
        if isinstance(palette, (list, tuple)) and len(palette) >= number:
            return [tuple(map(int, colour)) for colour in palette[:number]]
    return None


def _shown(classes: tuple[str, ...]) -> str:
    shown = ', '.join(map(repr, classes[:5]))
    return f'({shown}{", ..." if len(classes) > 5 else ""}; {len(classes)} in all)'
