"""Running one stage: what a stage gets, what it gives, and the training of one."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import pprint
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import is_cuda_available
from mmengine.dist import barrier, init_dist, is_distributed, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from castkd.datasets.source import LABELED
from castkd.datasets.splits import write_split
from castkd.engine.data_check import check_loader_data, check_training_data
from castkd.errors import ConfigError, TrainingError
from castkd.files import write_file
from castkd.hooks.first_weights import FirstWeights
from castkd.hooks.stage_metrics import StageMetrics
from castkd.structures import Pass

# mmengine keeps loggers, message hubs and visualizers by name for the life of the process.
_RUN_NUMBERS = itertools.count(1)
# Steps of a training whose runs are counted, to describe it.
_LOOKED_AT = 64


@dataclass(frozen=True)
class StageJob:
    """One stage to be run.

    Attributes:
        name: Name of the stage.
        folder: Where it writes.
        config: Config with all references resolved; of a stage whose config an earlier stage wrote, empty.
        options: Entries of the recipe beside name, kind, config and cfg_options, references resolved.
        resume: Whether to go on from what the folder holds.
        launcher: mmengine's launcher.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    launcher: str = 'none'


@dataclass
class StageResult:
    """What a stage gave.

    Attributes:
        outputs: File per output name.
        metrics: Numbers of the last validation.
        iterations: Training iterations.
        parameters: Parameters of the trained network.
        images: Number of images per source of the training data.
    """

    outputs: dict[str, Path]
    metrics: dict[str, float] = field(default_factory=dict)
    iterations: int = 0
    parameters: int = 0
    images: dict[str, int] = field(default_factory=dict)


class StageConfig(Config):
    """A config whose text is made in milliseconds.

    mmengine formats the whole config with yapf at the start of a run and for every checkpoint, seconds each time.
    """

    @property
    def pretty_text(self) -> str:
        """The content as Python assignments."""
        return ''.join(
            f'{key} = {pprint.pformat(value, width=100, sort_dicts=False)}\n'
            for key, value in self.to_dict().items()
        )


def run_train_stage(job: StageJob) -> StageResult:
    """Train as an mmengine run in ``job.folder``.

    Returns:
        Outputs ``checkpoint`` (the last one), ``config``, ``metrics``, and ``split`` when the data was divided.

    Raises:
        CastkdError: When the config, the data or a checkpoint does not fit.
        OSError: When the folder cannot be written or its disk is full.
    """
    config_file = job.folder / 'config.py'
    cfg = runner_config(job)
    start_processes(job.launcher, cfg)
    if is_main_process():
        write_file(config_file, StageConfig(cfg).pretty_text)
    barrier()
    runner = _build_runner(StageConfig(cfg, filename=str(config_file)))
    try:
        return _train(runner, job, config_file)
    finally:
        _release(runner)


def runner_config(job: StageJob) -> dict[str, Any]:
    """Return the stage's config with what its place in this process decides."""
    cfg = dict(job.config)
    point = resume_point(job.folder) if job.resume else None
    number = next(_RUN_NUMBERS)
    cfg.update(
        work_dir=str(job.folder),
        launcher=job.launcher,
        experiment_name=f'{job.name}-{number}',
        resume=point is not None,
    )
    if point is not None:
        cfg['load_from'] = str(point)
    if isinstance(cfg.get('visualizer'), Mapping):
        cfg['visualizer'] = {**cfg['visualizer'], 'name': f'{job.name}-{number}'}
    hooks = dict(cfg.get('default_hooks') or {})
    # A stage hands on its last weights, so there must be a checkpoint at the last iteration.
    checkpoint = {'type': 'CheckpointHook', **(hooks.get('checkpoint') or {}), 'save_last': True}
    cfg['default_hooks'] = {**hooks, 'checkpoint': checkpoint}
    if job.launcher != 'none' and not is_cuda_available():
        # mmengine gives DDP the GPU of the process; networks on a CPU take none.
        wrapper = {'type': 'MMDistributedDataParallel', 'broadcast_buffers': False}
        cfg['model_wrapper_cfg'] = {
            **wrapper,
            **(cfg.get('model_wrapper_cfg') or {}),
            'device_ids': None,
        }
    return cfg


def start_processes(launcher: str, cfg: Mapping[str, Any]) -> None:
    """Join the process group of the launcher, once for all stages.

    Raises:
        ConfigError: When the process was not started by the launcher.
    """
    if launcher == 'none' or is_distributed():
        return
    if launcher == 'pytorch' and not {'RANK', 'WORLD_SIZE', 'LOCAL_RANK'} <= set(os.environ):
        raise ConfigError(
            '--launcher pytorch: this process was not started by torchrun; use tools/dist_train.sh CONFIG GPUS'
        )
    options = dict((cfg.get('env_cfg') or {}).get('dist_cfg') or {'backend': 'nccl'})
    if is_cuda_available() or launcher != 'pytorch':
        init_dist(launcher, **options)
    else:
        # mmengine's own start selects a GPU first.
        torch.distributed.init_process_group('gloo')


def resume_point(folder: Path) -> Path | None:
    """Return the newest whole checkpoint that a broken run left, None when there is none.

    A run that is killed while it writes leaves half a file, or a pointer to a checkpoint that is gone already.
    """
    pointer = folder / 'last_checkpoint'
    candidates = []
    if pointer.is_file():
        # By name: the work directory may have been moved since.
        candidates.append(folder / Path(pointer.read_text(encoding='utf-8').strip()).name)
    others = (path for path in folder.glob('*.pth') if not path.name.startswith('best_'))
    candidates += sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path for path in candidates if path.is_file() and zipfile.is_zipfile(path)), None)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return a model without the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters of the network that is trained: a distiller's student, or the model."""
    network = getattr(model, 'student', model)
    return sum(parameter.numel() for parameter in network.parameters())


def image_counts(loader: Any) -> dict[str, int]:  # noqa: ANN401 - a dataloader
    """Return the number of images per source that batches draw from; a dataset without sources is all labelled."""
    sizes = getattr(loader.dataset, 'sizes', None)
    if not isinstance(sizes, Mapping):
        return {LABELED: len(loader.dataset)}
    counts = getattr(loader.batch_sampler, 'counts', sizes)
    return {name: size for name, size in sizes.items() if counts.get(name)}


def describe_images(loader: Any) -> str:  # noqa: ANN401 - a dataloader
    """Return in words what a training step reads."""
    sampler = loader.batch_sampler
    if hasattr(sampler, 'describe'):
        return sampler.describe()
    return f'per step {sampler.batch_size} of {len(loader.dataset)} images'


def describe_passes(passes: Iterable[Pass]) -> str:
    """Return the runs of a step in words: ``teacher on unsup_teacher (predict), student on sup (loss)``."""
    return ', '.join(f'{item.network} on {item.view} ({item.kind})' for item in passes)


def passes_per_step(model: nn.Module, iterations: int) -> dict[int, int]:
    """Return how many runs steps of a training have, for some that are spread evenly over it, the last one included."""
    spread = range(0, iterations, max(1, iterations // _LOOKED_AT))
    return {step: len(model.plan(step)) for step in (*spread, max(0, iterations - 1))}


def busiest_step(model: nn.Module, iterations: int) -> int:
    """Return a step with the most runs: where weights change over a training, the first one may lack some."""
    counts = passes_per_step(model, iterations)
    return max(counts, key=counts.get)


def mean_runs(model: nn.Module, iterations: int) -> float:
    """Return how many runs a mean step of a training has, relative to the busiest one, in (0, 1]; 1 without any run."""
    counts = passes_per_step(model, iterations).values()
    return fmean(counts) / max(counts) if any(counts) else 1.0


def describe_stage(name: str, model: nn.Module, loader: Any, iterations: int) -> str:  # noqa: ANN401
    """Return one line on what a training stage is about to do: steps, images, passes."""
    parts = [f'{name}: {iterations} steps', describe_images(loader)]
    if hasattr(model, 'plan'):
        counts = passes_per_step(model, iterations).values()
        fewest, most, mean = min(counts), max(counts), fmean(counts)
        number = (
            f'{most} pass{"" if most == 1 else "es"}'
            if fewest == most
            else f'{fewest} to {most} passes'
        )
        passes = describe_passes(model.plan(busiest_step(model, iterations)))
        parts.append(f'{number} per step: {passes}')
        about = '' if fewest == most else 'about '
        parts.append(f'{about}{round(iterations * mean)} passes in all')
    return '; '.join(parts)


def _build_runner(cfg: Config) -> Runner:
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def _train(runner: Runner, job: StageJob, config_file: Path) -> StageResult:
    watch = _with_hook(runner, StageMetrics)
    _with_hook(runner, FirstWeights)
    model = unwrapped(runner.model)
    check_loader_data(runner.cfg, 'train_dataloader')
    loader = runner.train_dataloader
    check_training_data(runner.cfg, loader.dataset, image_counts(loader), model)
    runner.logger.info(describe_stage(job.name, model, loader, runner.max_iters))
    runner.train()
    if runner.val_loop is not None and (not watch.metrics or watch.iteration != runner.iter):
        runner.val_loop.run()
    outputs = {'checkpoint': _last_checkpoint(job), 'config': config_file}
    outputs['metrics'] = job.folder / 'metrics.json'
    split = getattr(loader.dataset, 'split', None)
    if split is not None:
        outputs['split'] = job.folder / 'split.json'
    if is_main_process():
        text = json.dumps(watch.metrics, indent=2) + '\n'
        write_file(outputs['metrics'], text)
        if split is not None:
            write_split(split, outputs['split'])
    return StageResult(
        outputs=outputs,
        metrics=dict(watch.metrics),
        iterations=runner.iter,
        parameters=count_parameters(model),
        images=image_counts(loader),
    )


def _with_hook(runner: Runner, kind: type[Hook]) -> Hook:
    """Return the runner's hook of a kind, a new one when the config has none."""
    found = next((hook for hook in runner.hooks if isinstance(hook, kind)), None)
    if found is None:
        found = kind()
        runner.register_hook(found)
    return found


def _last_checkpoint(job: StageJob) -> Path:
    point = resume_point(job.folder)
    if point is None:
        raise TrainingError(
            f'stage {job.name!r} ended without a checkpoint in {str(job.folder)!r}; '
            'set default_hooks.checkpoint and remove its out_dir'
        )
    return point


def _release(runner: Runner) -> None:
    """Free what the run holds before the next stage starts: workers, memory of the device, log files."""
    for handler in list(runner.logger.handlers):
        if isinstance(handler, logging.FileHandler):
            handler.close()
            runner.logger.removeHandler(handler)
    runner._train_loop = runner._val_loop = runner._test_loop = None
    runner.model = runner.optim_wrapper = None
    gc.collect()
    if is_cuda_available():
        torch.cuda.empty_cache()
