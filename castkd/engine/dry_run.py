"""What a recipe would do, found out by building it, without writing anything."""

from __future__ import annotations

import copy
import io
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import LOOPS, MODELS, DefaultScope
from mmengine.runner import IterBasedTrainLoop, Runner
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from castkd.datasets.source import LABELED
from castkd.datasets.splits import list_images
from castkd.engine.manifest import DONE, Manifest
from castkd.engine.recipe import TRAIN, Recipe, Stage
from castkd.engine.references import substitute
from castkd.engine.stage import describe_images, describe_passes, image_counts
from castkd.errors import CastkdError
from castkd.structures import STUDENT
from castkd.visualization.report import duration_text

_STAGE_REFERENCE = re.compile(r'\{([\w-]+)\.\w+\}')
_TIMED_STEPS = 2
_STAND_IN_IMAGES = 64


@dataclass
class NetworkPlan:
    """Size of one network.

    Attributes:
        name: ``student`` or the teacher's name.
        kind: Name of its class.
        parameters: Number of parameters.
        megabytes: Memory of its parameters and buffers, and, if it is trained, of gradients and Adam's two moments.
        flops: Floating-point operations of one prediction of one image of the training data; None when not measured.
    """

    name: str
    kind: str
    parameters: int
    megabytes: float
    flops: float | None = None


@dataclass
class StagePlan:
    """What one stage would do.

    Attributes:
        name: Name of the stage.
        kind: Kind of the stage.
        state: What the manifest says: ``done`` or ``to do``.
        iterations: Training steps.
        images: Number of images per source.
        step: What one step reads, in words.
        networks: The networks.
        passes: Runs of the networks in the first step, in words.
        losses: Name and weight of the objectives in the first step.
        seconds_per_step: Measured on real data on this machine; None when it could not be.
        notes: What is not there yet, or what went wrong, one line each.
    """

    name: str
    kind: str
    state: str = 'to do'
    iterations: int = 0
    images: dict[str, int] = field(default_factory=dict)
    step: str = ''
    networks: list[NetworkPlan] = field(default_factory=list)
    passes: str = ''
    losses: str = ''
    seconds_per_step: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def estimate(self) -> str:
        """Time of the whole stage in words, empty when it is unknown."""
        if self.seconds_per_step is None:
            return ''
        return f'~ {duration_text(self.seconds_per_step * self.iterations)}'


def plan_stages(recipe: Recipe, stages: Sequence[Stage]) -> list[StagePlan]:
    """Build what can be built of the stages and run a training step of each where its data are there.

    Args:
        recipe: The recipe.
        stages: Those of its stages that are looked at.

    Returns:
        One plan per stage. Networks have random weights, except teachers whose files exist.
    """
    manifest = Manifest.load(recipe.work_dir)
    with _quiet():
        return [_plan_stage(stage, manifest) for stage in stages]


def plan_tables(title: str, plans: Sequence[StagePlan]) -> list[Table]:
    """Return the tables for the terminal: stages, steps, networks, notes."""
    stages = _table(f'{title}: stages', 'stage', 'kind', 'state', 'steps', 'images', 'time')
    steps = _table('one training step', 'stage', 'reads', 'passes', 'losses')
    sizes = ('parameters', 'GFLOPs per image', 'memory')
    networks = _table('networks', 'stage', 'network', 'class', *sizes)
    notes = _table('notes', 'stage', 'note')
    for plan in plans:
        images = ' + '.join(f'{count} {source}' for source, count in plan.images.items())
        count = str(plan.iterations or '')
        stages.add_row(plan.name, plan.kind, plan.state, count, images, plan.estimate)
        if plan.step or plan.passes:
            steps.add_row(plan.name, plan.step, plan.passes, plan.losses)
        for item in plan.networks:
            flops = '' if item.flops is None else f'{item.flops / 1e9:.2f}'
            parameters, memory = f'{item.parameters / 1e6:.2f} M', f'{item.megabytes:.0f} MB'
            networks.add_row(plan.name, item.name, item.kind, parameters, flops, memory)
        for note in plan.notes:
            notes.add_row(plan.name, note)
    left = [plan for plan in plans if plan.seconds_per_step is not None and plan.state != DONE]
    if left:
        seconds = sum(plan.seconds_per_step * plan.iterations for plan in left)
        stages.caption = f'training still to do: ~ {duration_text(seconds)} on this machine'
    return [table for table in (stages, steps, networks, notes) if table.row_count]


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, overflow='fold')
    return table


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what libraries say while they build out of the tables."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _plan_stage(stage: Stage, manifest: Manifest) -> StagePlan:
    record = manifest.stages.get(stage.name)
    plan = StagePlan(stage.name, stage.kind)
    if record is not None and record.state == DONE:
        plan.state = 'done'
    waiting = [name for name, output in stage.uses if manifest.output(name, output) is None]
    plan.notes += [
        f'takes files from stage {name!r}, which is not finished' for name in dict.fromkeys(waiting)
    ]
    if stage.kind != TRAIN:
        plan.images = _image_files(stage.options['images'], plan)
        return plan

    def lookup(name: str, output: str | None, where: str) -> str:
        path = manifest.output(name, output or '')
        return str(path) if path else f'{{{name}.{output}}}'

    config = Config(substitute(copy.deepcopy(stage.config), lookup))
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmengine'):
        _plan_training(config, plan)
    return plan


def _image_files(images: str | Sequence[str], plan: StagePlan) -> dict[str, int]:
    """Return how many images a folder or a list holds."""
    try:
        return {'images': len(list_images(images) if isinstance(images, str) else images)}
    except CastkdError as error:
        plan.notes.append(str(error))
        return {}


def _plan_training(config: Config, plan: StagePlan) -> None:
    plan.iterations = _iterations(config.train_cfg, None)
    seed = (config.get('randomness') or {}).get('seed') or 0
    torch.manual_seed(seed)
    model = _build_model(config)
    networks = {STUDENT: getattr(model, 'student', model)}
    networks.update(
        {name: teacher.model for name, teacher in getattr(model, 'teachers', {}).items()}
    )
    plan.networks = [_network(name, network) for name, network in networks.items()]
    if hasattr(model, 'plan'):
        plan.passes = describe_passes(model.plan(0))
        plan.losses = _active(model)
    loader = _loader(config, plan, seed)
    if loader is None:
        return
    plan.iterations = _iterations(config.train_cfg, loader)
    _measure(config, model, networks, loader, plan)


def _iterations(train_cfg: Mapping[str, Any], loader: DataLoader | None) -> int:
    """Return the number of steps; epochs count once their length is known."""
    if 'max_iters' in train_cfg:
        return int(train_cfg['max_iters'])
    kind = LOOPS.get(train_cfg['type']) if 'type' in train_cfg else None
    by_iterations = kind is not None and issubclass(kind, IterBasedTrainLoop)
    if loader is None or by_iterations:
        return 0
    return int(train_cfg.get('max_epochs', 0)) * len(loader)


def _build_model(config: Config) -> nn.Module:
    model = dict(config.model)
    if config.get('data_preprocessor'):
        model.setdefault('data_preprocessor', config.data_preprocessor)
    return MODELS.build(model).to(get_device())


def _active(model: nn.Module) -> str:
    weights = {name: float(item.weight(0)) for name, item in model.objectives.items()}
    return ', '.join(f'{name} x {weight:g}' for name, weight in weights.items() if weight)


def _network(name: str, network: nn.Module) -> NetworkPlan:
    parameters = sum(item.numel() for item in network.parameters())
    tensors = [*network.parameters(), *network.buffers()]
    size = sum(item.numel() * item.element_size() for item in tensors)
    if name == STUDENT:
        trained = [item for item in network.parameters() if item.requires_grad]
        size += 3 * sum(item.numel() * item.element_size() for item in trained)
    return NetworkPlan(name, type(network).__name__, parameters, size / 2**20)


def _loader(config: Config, plan: StagePlan, seed: int) -> DataLoader | None:
    """Return the training loader without worker processes, None when its data are not there."""
    loader = copy.deepcopy(dict(config.train_dataloader))
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    missing = _awaited(loader)
    if missing and not _use_labeled_instead(loader['dataset']):
        plan.notes.append(
            f'its data come from stage {missing!r}: images and time are not known yet'
        )
        return None
    try:
        built = Runner.build_dataloader(loader, seed=seed)
    except (CastkdError, OSError) as error:
        plan.notes.append(f'data: {error}')
        return None
    if missing:
        plan.notes.append(
            f'its data come from stage {missing!r}: timed on labelled images in their place'
        )
        counts = getattr(built.batch_sampler, 'counts', {})
        plan.step = 'per step ' + ' + '.join(f'{count} {name}' for name, count in counts.items())
    else:
        plan.images = image_counts(built)
        plan.step = describe_images(built)
    return built


def _awaited(value: object) -> str | None:
    """Return the unfinished stage that a part of a config waits for."""
    match = _STAGE_REFERENCE.search(str(value))
    return match[1] if match else None


def _use_labeled_instead(dataset: dict) -> bool:
    """Let sources that wait for a stage read some labelled images through their own pipeline, for timing only."""
    sources = dataset.get('sources') or {}
    labeled = sources.get(LABELED)
    if labeled is None or _awaited(labeled):
        return False
    for name, source in sources.items():
        pipeline = source.get('pipeline', labeled.get('pipeline'))
        sources[name] = {**labeled, 'indices': _STAND_IN_IMAGES, 'pipeline': pipeline}
    dataset.pop('split', None)
    return _awaited(dataset) is None


def _measure(
    config: Config,
    model: nn.Module,
    networks: Mapping[str, nn.Module],
    loader: DataLoader,
    plan: StagePlan,
) -> None:
    """Time real training steps and count operations of one image of a real batch."""
    batches = iter(loader)
    wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
    model.train()
    try:
        with _loaded_where_possible(model):
            for _ in range(_TIMED_STEPS):
                started = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                model.train_step(batch, wrapper)
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                plan.seconds_per_step = time.perf_counter() - started
    except CastkdError as error:
        plan.notes.append(f'a training step fails: {error}')
        return
    image, sample = _one_image(model, batch)
    for item in plan.networks:
        item.flops = _flops(networks[item.name], image, sample)


@contextmanager
def _loaded_where_possible(model: nn.Module) -> Iterator[None]:
    """Let teachers work with random weights where their files do not exist yet."""
    for teacher in getattr(model, 'teachers', {}).values():
        file = getattr(teacher, 'checkpoint', None)
        if file is None or Path(file).is_file():
            teacher.load()
        teacher.connect(model.student, model.classes)
    yield


def _one_image(model: nn.Module, batch: Mapping[str, Any]) -> tuple[torch.Tensor, list]:
    """Return one normalised image (1, 3, H, W) of a batch, of the first view if it has several, and its sample."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    inputs, samples = data['inputs'], data['data_samples']
    if isinstance(inputs, Mapping):
        view = next(iter(inputs))
        inputs, samples = inputs[view], samples[view]
    return inputs[:1], samples[:1]


@torch.no_grad()
def _flops(network: nn.Module, image: torch.Tensor, samples: list) -> float | None:
    """Return the operations (two per multiply-add) of one prediction, None when the network cannot make one."""
    training = network.training
    network.eval()
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            network(image, copy.deepcopy(samples), mode='tensor')
    except (TypeError, RuntimeError, KeyError, AttributeError):
        return None
    finally:
        network.train(training)
    return float(counter.get_total_flops())
