"""Evaluate a trained model."""

# ruff: noqa: PT028 - the function is called test, and is none of pytest's

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from castkd.apis.student import building, dataset_meta, read_config, student_config
from castkd.checkpoints import load_checkpoint, load_strict, sha256, student_state
from castkd.checks import check_choice
from castkd.engine.data_check import check_loader_data
from castkd.engine.stage import unwrapped
from castkd.errors import ConfigError, DataError, in_one_line
from castkd.files import write_file
from castkd.visualization.report import with_unit

VISUALIZATION = {
    'mmdet': ('DetVisualizationHook', 'DetLocalVisualizer'),
    'mmseg': ('SegVisualizationHook', 'SegLocalVisualizer'),
}

_RUN_NUMBERS = itertools.count(1)


def test(
    config: str | Path | Config,
    checkpoint: str | Path,
    *,
    work_dir: str | Path | None = None,
    out: str | Path | None = None,
    show_dir: str | Path | None = None,
    launcher: str = 'none',
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Evaluate the student of a distiller, or a plain model, with the ``test_evaluator`` of its config.

    Args:
        config: Config of a distiller or of a plain mmdet or mmseg model.
        checkpoint: Its checkpoint, or an exported student.
        work_dir: Folder for logs; None takes the config's, or ``work_dirs/<name of the config>``.
        out: JSON file for the numbers.
        show_dir: Folder for images with predictions drawn on them.
        launcher: mmengine's launcher for several GPUs.
        cfg_options: New config values by dotted key.

    Returns:
        Number per metric.

    Raises:
        ConfigError: When the config has no test data or is wrong.
        CheckpointError: When the checkpoint is missing, damaged, unsafe or of another model.
        DataError: When images or annotations are missing, or a folder is not writable.
    """
    cfg = student_config(read_config(config, cfg_options))
    for key in ('test_dataloader', 'test_evaluator'):
        if not cfg.get(key):
            raise ConfigError(f'config {cfg.filename!r} has no {key}; it says what to test on')
    content = load_checkpoint(checkpoint)
    dataset_meta(cfg, content, str(checkpoint))
    check_loader_data(cfg, 'test_dataloader')
    stem = Path(cfg.filename).stem if cfg.filename else 'test'
    cfg.work_dir = str(work_dir or cfg.get('work_dir') or Path('work_dirs', stem))
    cfg.launcher = launcher
    # mmengine keeps loggers and visualizers by name for the life of the process.
    cfg.experiment_name = f'test-{stem}-{next(_RUN_NUMBERS)}'
    if 'visualizer' in cfg:
        cfg.visualizer.name = cfg.experiment_name
    if show_dir:
        _draw(cfg, Path(show_dir).absolute())
    metrics = _run(cfg, student_state(content), str(checkpoint))
    if is_main_process():
        # First what cannot fail.
        _print(metrics, str(checkpoint))
        if out:
            _write(out, cfg, checkpoint, metrics)
    return metrics


def _run(cfg: Config, state: Mapping, source: str) -> dict[str, float]:
    try:
        with building(cfg, 'runner'):
            runner = Runner.from_cfg(cfg)
        load_strict(unwrapped(runner.model), state, source)
        with building(cfg, 'test_dataloader or test_evaluator'):
            runner.test_loop  # noqa: B018 - the property builds dataset, loader and evaluator
        with in_one_line():
            metrics = runner.test()
    except OSError as error:
        raise DataError(
            f'test: {error}; check data_root, ann_file and data_prefix of test_dataloader.dataset, and work_dir'
        ) from error
    return {key: float(value) for key, value in metrics.items()}


def _draw(cfg: Config, folder: Path) -> None:
    """Let the library's visualization hook draw every prediction into ``folder``."""
    check_choice('show_dir', 'default_scope', cfg.default_scope, VISUALIZATION)
    hook, visualizer = VISUALIZATION[cfg.default_scope]
    hook = {'type': hook, 'draw': True}
    visualizer = {'type': visualizer}
    if cfg.default_scope == 'mmdet':
        hook['test_out_dir'] = str(folder)
    else:
        visualizer |= {'vis_backends': [{'type': 'LocalVisBackend'}], 'save_dir': str(folder)}
    cfg.default_hooks = {'visualization': hook}
    cfg.visualizer = visualizer


def _write(out: str | Path, cfg: Config, checkpoint: str | Path, metrics: dict) -> None:
    content = {
        'config': cfg.filename,
        'checkpoint': str(checkpoint),
        'checkpoint_sha256': sha256(checkpoint),
        # JSON knows no NaN, which is what a class without instances has.
        'metrics': {key: value if math.isfinite(value) else None for key, value in metrics.items()},
    }
    write_file(out, json.dumps(content, indent=1) + '\n')


def _print(metrics: Mapping[str, float], title: str) -> None:
    table = Table('metric', 'value', title=title)
    for name, value in metrics.items():
        table.add_row(with_unit(name), f'{value:.4f}')
    Console().print(table)
