"""What a recipe would do, found out by building it, without writing anything."""

from __future__ import annotations

import copy
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import LOOPS, MODELS, DefaultScope
from mmengine.runner import IterBasedTrainLoop
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

from castkd.datasets.source import LABELED
from castkd.datasets.splits import list_images
from castkd.engine.data_check import check_loader_data, check_training_data
from castkd.engine.manifest import DONE, Manifest
from castkd.engine.measuring import (
    bare_loader,
    count_operations,
    one_image,
    time_prediction,
    time_training,
)
from castkd.engine.recipe import TRAIN, Recipe, Stage
from castkd.engine.references import substitute
from castkd.engine.stage import describe_images, describe_passes, image_counts
from castkd.errors import CastkdError
from castkd.structures import STUDENT
from castkd.visualization.report import duration_text, images_text

_STAGE_REFERENCE = re.compile(r'\{([\w-]+)\.\w+\}')
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
        predictions: Images that are predicted, in all validations or by a stage that labels.
        seconds_per_image: Of a prediction, measured on validation images; None when it could not be.
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
    predictions: int = 0
    seconds_per_image: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def prediction_seconds(self) -> float | None:
        """Time of all predictions, None when it is unknown."""
        return None if self.seconds_per_image is None else self.seconds_per_image * self.predictions

    @property
    def seconds(self) -> float | None:
        """Time of the whole stage as far as it was measured, None when its main part was not."""
        if self.kind != TRAIN:
            return self.prediction_seconds
        if self.seconds_per_step is None:
            return None
        return self.seconds_per_step * self.iterations + (self.prediction_seconds or 0.0)

    @property
    def estimate(self) -> str:
        """Time of the whole stage in words, empty when it is unknown."""
        return _about(self.seconds)


def plan_stages(recipe: Recipe, stages: Sequence[Stage]) -> list[StagePlan]:
    """Build what can be built of the stages, and train and predict a few batches of each where its data are there.

    Args:
        recipe: The recipe.
        stages: Those of its stages that are looked at.

    Returns:
        One plan per stage. Networks have random weights, except teachers whose files exist.
    """
    planner = _Planner(recipe)
    with _quiet():
        return [planner.plan(stage) for stage in stages]


def plan_tables(title: str, plans: Sequence[StagePlan]) -> list[Table]:
    """Return the tables for the terminal: stages, steps, networks, notes."""
    columns = ('stage', 'kind', 'state', 'steps', 'images', 'time', 'of it predicting')
    stages = _table(f'{title}: stages', *columns)
    steps = _table('one training step', 'stage', 'reads', 'passes', 'losses')
    sizes = ('parameters', 'GFLOPs per image', 'memory')
    networks = _table('networks', 'stage', 'network', 'class', *sizes)
    notes = _table('notes', 'stage', 'note')
    for plan in plans:
        count = str(plan.iterations or '')
        predictions = f'{plan.predictions} {_about(plan.prediction_seconds)}'.strip()
        stages.add_row(
            plan.name,
            plan.kind,
            plan.state,
            count,
            images_text(plan.images),
            plan.estimate,
            predictions if plan.predictions else '',
        )
        if plan.step or plan.passes:
            steps.add_row(plan.name, plan.step, plan.passes, plan.losses)
        for item in plan.networks:
            flops = '' if item.flops is None else f'{item.flops / 1e9:.2f}'
            parameters, memory = f'{item.parameters / 1e6:.2f} M', f'{item.megabytes:.0f} MB'
            networks.add_row(plan.name, item.name, item.kind, parameters, flops, memory)
        for note in plan.notes:
            notes.add_row(plan.name, note)
    left = [plan.seconds for plan in plans if plan.seconds is not None and plan.state != DONE]
    if left:
        stages.caption = f'still to do: {_about(sum(left))} on this machine'
    return [table for table in (stages, steps, networks, notes) if table.row_count]


def _about(seconds: float | None) -> str:
    return '' if seconds is None else f'~ {duration_text(seconds)}'


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


class _Planner:
    """Plans stages of one recipe. A network is timed once, in the stage that trains it."""

    def __init__(self, recipe: Recipe) -> None:
        self.manifest = Manifest.load(recipe.work_dir)
        self.stages = {stage.name: stage for stage in recipe.stages}
        self.seconds_per_image: dict[str, float | None] = {}

    def plan(self, stage: Stage) -> StagePlan:
        """Return the plan of a stage."""
        record = self.manifest.stages.get(stage.name)
        plan = StagePlan(stage.name, stage.kind)
        if record is not None and record.state == DONE:
            plan.state = DONE
        uses = dict.fromkeys(
            name for name, output in stage.uses if self.manifest.output(name, output) is None
        )
        plan.notes += [f'takes files from stage {name!r}, which is not finished' for name in uses]
        if stage.kind != TRAIN:
            self._plan_labels(stage, plan)
            return plan
        config = self._config(stage)
        with _scope_of(config):
            self._plan_training(stage, config, plan)
        return plan

    def _config(self, stage: Stage) -> Config:
        """Return a stage's config with the files that exist already."""

        def lookup(name: str, output: str | None, where: str) -> str:
            path = self.manifest.output(name, output or '')
            return str(path) if path else f'{{{name}.{output}}}'

        return Config(substitute(copy.deepcopy(stage.config), lookup))

    def _plan_labels(self, stage: Stage, plan: StagePlan) -> None:
        plan.images = _image_files(stage.options['images'], plan)
        plan.predictions = sum(plan.images.values())
        # Its config is its own, or that of the stage that trains its network.
        owner = self.stages.get(_awaited(stage.options.get('config')) or '', stage)
        config = self._config(owner)
        if owner.name not in self.seconds_per_image and 'model' in config:
            with _scope_of(config):
                self._time_prediction(owner, config, _build_model(config), plan)
        plan.seconds_per_image = self.seconds_per_image.get(owner.name)

    def _plan_training(self, stage: Stage, config: Config, plan: StagePlan) -> None:
        plan.iterations = _iterations(config.train_cfg, None)
        torch.manual_seed(_seed(config))
        model = _build_model(config)
        networks = {STUDENT: getattr(model, 'student', model), **getattr(model, 'peers', {})}
        networks.update(
            {name: teacher.model for name, teacher in getattr(model, 'teachers', {}).items()}
        )
        plan.networks = [_network(name, network) for name, network in networks.items()]
        if hasattr(model, 'plan'):
            plan.passes = describe_passes(model.plan(0))
            plan.losses = _active(model)
        loader = _training_loader(config, model, plan)
        if loader is not None:
            plan.iterations = _iterations(config.train_cfg, loader)
            _measure_training(config, model, networks, loader, plan)
        images = self._time_prediction(stage, config, model, plan)
        plan.predictions = images * _validations(config.train_cfg)
        plan.seconds_per_image = self.seconds_per_image[stage.name]

    def _time_prediction(
        self, stage: Stage, config: Config, model: nn.Module, plan: StagePlan
    ) -> int:
        """Time predictions of a stage's network on its validation images; return how many of those there are."""
        self.seconds_per_image[stage.name] = None
        if config.get('val_dataloader') is None:
            return 0
        try:
            check_loader_data(config, 'val_dataloader')
            loader = bare_loader(config.val_dataloader, _seed(config))
            self.seconds_per_image[stage.name] = time_prediction(model, loader)
        except (CastkdError, OSError) as error:
            plan.notes.append(f'validation: {error}')
            return 0
        return len(loader.dataset)


def _scope_of(config: Config) -> AbstractContextManager:
    return DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmengine')


def _seed(config: Config) -> int:
    return (config.get('randomness') or {}).get('seed') or 0


def _image_files(images: str | Sequence[str], plan: StagePlan) -> dict[str, int]:
    """Return how many images a folder or a list holds."""
    try:
        return {'images': len(list_images(images) if isinstance(images, str) else images)}
    except CastkdError as error:
        plan.notes.append(str(error))
        return {}


def _iterations(train_cfg: Mapping[str, Any], loader: DataLoader | None) -> int:
    """Return the number of steps; epochs count once their length is known."""
    if 'max_iters' in train_cfg:
        return int(train_cfg['max_iters'])
    kind = LOOPS.get(train_cfg['type']) if 'type' in train_cfg else None
    by_iterations = kind is not None and issubclass(kind, IterBasedTrainLoop)
    if loader is None or by_iterations:
        return 0
    return int(train_cfg.get('max_epochs', 0)) * len(loader)


def _validations(train_cfg: Mapping[str, Any]) -> int:
    """Return how often a stage validates: every ``val_interval`` steps or epochs, and at its end."""
    total = train_cfg.get('max_iters', train_cfg.get('max_epochs', 0))
    interval, first = train_cfg.get('val_interval', 1), train_cfg.get('val_begin', 1)
    inside = [when for when in range(interval, total, interval) if when >= first]
    return len(inside) + 1


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
    trained = [item for item in network.parameters() if item.requires_grad]
    size += 3 * sum(item.numel() * item.element_size() for item in trained)
    return NetworkPlan(name, type(network).__name__, parameters, size / 2**20)


def _training_loader(config: Config, model: nn.Module, plan: StagePlan) -> DataLoader | None:
    """Return the training loader, None when its data are not there or wrong."""
    loader = copy.deepcopy(dict(config.train_dataloader))
    missing = _awaited(loader)
    if missing and not _use_labeled_instead(loader['dataset']):
        plan.notes.append(
            f'its data come from stage {missing!r}: images and time are not known yet'
        )
        return None
    try:
        check_loader_data(config, 'train_dataloader')
        built = bare_loader(loader, _seed(config))
        if not missing:
            check_training_data(config, built.dataset, image_counts(built), model)
    except (CastkdError, OSError) as error:
        plan.notes.append(f'data: {error}')
        return None
    if missing:
        plan.notes.append(
            f'its data come from stage {missing!r}: timed on labelled images in their place'
        )
        counts = getattr(built.batch_sampler, 'counts', {})
        plan.step = f'per step {images_text(counts)}'
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


def _measure_training(
    config: Config,
    model: nn.Module,
    networks: Mapping[str, nn.Module],
    loader: DataLoader,
    plan: StagePlan,
) -> None:
    """Time training steps and count the operations of one image of a batch."""
    try:
        plan.seconds_per_step, batch = time_training(model, config.optim_wrapper, loader)
    except CastkdError as error:
        plan.notes.append(f'a training step fails: {error}')
        return
    image, sample = one_image(model, batch)
    for item in plan.networks:
        item.flops = count_operations(networks[item.name], image, sample)
