"""Train a recipe or a single config."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process

from castkd.apis.pseudo_label import generate_pseudo_labels, quality_file
from castkd.apis.results import check_report, show_plans, write_results
from castkd.checkpoints import guard_unsafe_fallback
from castkd.engine.config_check import check_configs
from castkd.engine.dry_run import plan_stages
from castkd.engine.gpus import find_gpu
from castkd.engine.recipe import PSEUDO_LABEL, TRAIN, Recipe, load_recipe
from castkd.engine.recipe_runner import RecipeRunner
from castkd.engine.stage import StageConfig, StageJob, StageResult, run_train_stage
from castkd.engine.storage import install_atomic_storage
from castkd.errors import ConfigError, DataError
from castkd.files import write_file

_ANNOTATIONS = 'annotations.json'
_REASONS = {
    errno.ENOSPC: 'the disk is full; free space or use another --work-dir',
    errno.EDQUOT: 'the disk quota is used up; free space or use another --work-dir',
    errno.EACCES: 'no permission; change it or use another --work-dir',
    errno.EPERM: 'no permission; change it or use another --work-dir',
    errno.EROFS: 'the file system is read-only; use another --work-dir',
    errno.ENOENT: 'no such file or folder; check data_root, ann_file and data_prefix',
    errno.ENOTDIR: 'a part of the path is no folder; use another --work-dir',
}


def train(
    config: str | Path,
    *,
    stage: str | Collection[str] | None = None,
    resume: bool = False,
    dry_run: bool = False,
    gpu: str | None = None,
    work_dir: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    launcher: str = 'none',
    amp: bool = False,
) -> dict[str, Any]:
    """Run the stages of a recipe, or train a plain config.

    A finished stage is skipped. The work directory gets a folder per stage, the manifest ``recipe.json``, and when all
    stages are finished ``results.json`` and ``report.html``.

    Args:
        config: Recipe or training config, a Python file.
        stage: Name or names of the stages to run; None for all.
        resume: Whether to go on with a stage that was broken off.
        dry_run: Whether to say only what would be done. Builds what can be built; writes nothing.
        gpu: Name of the GPU that a dry run estimates costs for (:mod:`castkd.engine.gpus`); None times steps here.
        work_dir: Where to work; None takes the config's, or ``work_dirs/<file name>``.
        cfg_options: New config values by dotted key, see :func:`castkd.engine.recipe.load_recipe`.
        launcher: ``none``, or ``pytorch`` (``slurm``, ``mpi``) for a process of a distributed run.
        amp: Whether to train in automatic mixed precision.

    Returns:
        ``work_dir`` and ``rows``: the content of ``results.json``, as far as stages are finished. After a dry run
        ``rows`` holds one plan per stage instead.

    Raises:
        ConfigError: When the config is wrong, a stage is unknown, or a stage was made with another config.
        DataError: When data are missing or wrong, or the work directory cannot be written.
        CheckpointError: When a checkpoint is missing, damaged, unsafe or of another model.
        TrainingError: When training cannot go on.
    """
    guard_unsafe_fallback()
    install_atomic_storage()
    if gpu is not None and not dry_run:
        raise ConfigError('--gpu is for a --dry-run: it estimates what a training costs')
    card = None if gpu is None else find_gpu(gpu)
    recipe = load_recipe(config, work_dir=work_dir, cfg_options=cfg_options, amp=amp)
    selected = recipe.select(stage)
    check_recipe(recipe)
    with _plain_file_errors():
        if dry_run:
            plans = plan_stages(recipe, selected, card)
            show_plans(recipe, plans)
            return {'work_dir': str(recipe.work_dir), 'rows': plans}
        runners = {TRAIN: run_train_stage, PSEUDO_LABEL: run_pseudo_label_stage}
        runner = RecipeRunner(recipe, runners, launcher)
        before = runner.manifest
        manifest = runner.run(stage, resume)
        if not is_main_process():
            return {'work_dir': str(recipe.work_dir), 'rows': []}
        return write_results(recipe, manifest, anew=manifest is not before)


def check_recipe(recipe: Recipe) -> None:
    """Check the report's options and the configs of all train stages.

    Raises:
        ConfigError: With every problem and its dotted key.
    """
    check_report(recipe)
    configs = {
        '' if recipe.single else stage.name: stage.config
        for stage in recipe.stages
        if stage.kind == TRAIN
    }
    check_configs(configs, str(recipe.path))


def run_pseudo_label_stage(job: StageJob) -> StageResult:
    """Label a folder of images into ``annotations.json``.

    Returns:
        Output ``annotations``; where the stage names a reference also ``quality``, with precision and recall, or mIoU,
        as metrics.

    Raises:
        CastkdError: What :func:`~castkd.apis.pseudo_label.generate_pseudo_labels` raises.
    """
    options = dict(job.options)
    config = options.pop('config', None)
    if config is None:
        config = job.folder / 'config.py'
        write_file(config, StageConfig(job.config).pretty_text)
    summary = generate_pseudo_labels(
        config,
        options.pop('checkpoint'),
        options.pop('images'),
        job.folder / _ANNOTATIONS,
        resume=job.resume,
        **options,
    )
    quality = _numbers(summary.get('quality') or {})
    print(describe_labels(summary))
    outputs = {'annotations': job.folder / _ANNOTATIONS}
    if 'quality' in summary:
        outputs['quality'] = quality_file(outputs['annotations'])
    return StageResult(
        outputs=outputs,
        metrics=quality,
        images={'images': int(summary['num_images'])},
    )


def describe_labels(summary: Mapping[str, Any]) -> str:
    """Return one line on what was labelled: instances, or the share of pixels that got a class."""
    if 'labelled_share' in summary:
        made = f'pseudo-labels for {summary["labelled_share"]:.1%} of the pixels of'
        without = summary['num_images_without_labels']
    else:
        made = f'{summary["num_instances"]} pseudo-labels on'
        without = summary['num_images_without_instances']
    quality = _numbers(summary.get('quality') or {})
    names = ('precision', 'recall', 'mean_iou', 'area_ratio', 'mIoU', 'accuracy')
    rates = [f'{name} {quality[name]:.3f}' for name in names if name in quality]
    return f'{made} {summary["num_images"]} images ({without} without any)' + (
        f'; against the reference: {", ".join(rates)}' if rates else ''
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


@contextmanager
def _plain_file_errors() -> Iterator[None]:
    """Turn errors of the file system into one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        where = f'{str(error.filename)!r}: ' if error.filename else ''
        raise DataError(f'{where}{_REASONS[error.errno]}') from error
