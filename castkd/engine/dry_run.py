"""What a recipe would do, found out by building it, without writing anything."""

from __future__ import annotations

import copy
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.registry import LOOPS, MODELS, DefaultScope
from mmengine.runner import IterBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from castkd.datasets.source import LABELED
from castkd.datasets.splits import list_images
from castkd.engine.costs import count_prediction, count_step, load_teachers
from castkd.engine.data_check import check_loader_data, check_training_data
from castkd.engine.gpus import Gpu
from castkd.engine.manifest import DONE, Manifest, config_text
from castkd.engine.measuring import (
    bare_loader,
    count_operations,
    one_image,
    time_prediction,
    time_training,
)
from castkd.engine.optim import MIXED_PRECISION
from castkd.engine.plans import NetworkPlan, StageCost, StagePlan
from castkd.engine.recipe import TRAIN, Recipe, Stage
from castkd.engine.references import substitute
from castkd.engine.stage import (
    busiest_step,
    describe_images,
    describe_passes,
    image_counts,
    mean_runs,
)
from castkd.errors import CastkdError, DataError
from castkd.structures import STUDENT
from castkd.visualization.report import images_text

_STAGE_REFERENCE = re.compile(r'\{([\w-]+)\.\w+\}')
_STAND_IN_IMAGES = 64


def plan_stages(recipe: Recipe, stages: Sequence[Stage], gpu: Gpu | None = None) -> list[StagePlan]:
    """Build what can be built of the stages, and train and predict a few batches of each where its data are there.

    For a GPU nothing is trained or timed: runs are counted on an image, and times follow from what the GPU can do.

    Args:
        recipe: The recipe.
        stages: Those of its stages that are looked at.
        gpu: GPU that costs are estimated for; None times what this machine does.

    Returns:
        One plan per stage. Networks have random weights, except teachers whose files exist.
    """
    planner = _Planner(recipe, gpu)
    with _quiet():
        return [planner.plan(stage) for stage in stages]


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
    """Plans stages of one recipe. Predictions of a network are timed once, in the stage that trains it."""

    def __init__(self, recipe: Recipe, gpu: Gpu | None) -> None:
        self.gpu = gpu
        self.manifest = Manifest.load(recipe.work_dir)
        self.stages = {stage.name: stage for stage in recipe.stages}
        # Per stage that trains a network: seconds and, for a GPU, operations of predicting an image.
        self.seconds_per_image: dict[str, float | None] = {}
        self.image_operations: dict[str, float] = {}
        # Operations of predictions by what decides them: stages often train the same network.
        self._counted: dict[str, float] = {}

    def plan(self, stage: Stage) -> StagePlan:
        """Return the plan of a stage."""
        record = self.manifest.stages.get(stage.name)
        plan = StagePlan(stage.name, stage.kind, gpu=self.gpu)
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
        self._set_prediction(plan, owner.name)

    def _plan_training(self, stage: Stage, config: Config, plan: StagePlan) -> None:
        plan.iterations = _iterations(config.train_cfg, None)
        torch.manual_seed(_seed(config))
        model = _build_model(config)
        networks = {STUDENT: getattr(model, 'student', model), **getattr(model, 'peers', {})}
        networks.update(
            {name: teacher.model for name, teacher in getattr(model, 'teachers', {}).items()}
        )
        plan.networks = [_network(name, network) for name, network in networks.items()]
        loader = _training_loader(config, model, plan)
        if loader is not None:
            plan.iterations = _iterations(config.train_cfg, loader)
        if hasattr(model, 'plan'):
            plan.mean_runs = mean_runs(model, plan.iterations or 1)
            busiest = busiest_step(model, plan.iterations or 1)
            model.set_step(busiest)
            plan.passes = describe_passes(model.plan(busiest))
            plan.losses = _active(model, busiest)
        if loader is not None:
            if self.gpu is None:
                _measure_training(config, model, networks, loader, plan)
            else:
                _count_training(config, model, loader, self.gpu, plan)
        images = self._time_prediction(stage, config, model, plan)
        plan.predictions = images * _validations(config.train_cfg)
        self._set_prediction(plan, stage.name)

    def _set_prediction(self, plan: StagePlan, owner: str) -> None:
        plan.seconds_per_image = self.seconds_per_image.get(owner)
        plan.cost.image_operations = self.image_operations.get(owner)

    def _time_prediction(
        self, stage: Stage, config: Config, model: nn.Module, plan: StagePlan
    ) -> int:
        """Time or estimate predictions of a stage's network on its validation images; return how many there are."""
        self.seconds_per_image[stage.name] = None
        if config.get('val_dataloader') is None:
            return 0
        try:
            check_loader_data(config, 'val_dataloader')
            loader = bare_loader(config.val_dataloader, _seed(config))
            if self.gpu is None:
                seconds = time_prediction(model, loader)
            else:
                operations = self._operations(config, model, loader)
                self.image_operations[stage.name] = operations
                # Validation and labelling run in single precision, whatever training does.
                seconds = self.gpu.seconds(operations, amp=False)
            self.seconds_per_image[stage.name] = seconds
        except (CastkdError, OSError) as error:
            plan.notes.append(f'validation: {error}')
            return 0
        return len(loader.dataset)

    def _operations(self, config: Config, model: nn.Module, loader: DataLoader) -> float:
        """Return the operations of a prediction of an image of a loader, counted once for each network."""
        network = config.model.get(STUDENT, config.model)
        key = config_text({'network': network, 'data': config.val_dataloader})
        if key not in self._counted:
            self._counted[key] = count_prediction(model, loader)
        return self._counted[key]


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


def _active(model: nn.Module, step: int) -> str:
    weights = {name: float(item.weight(step)) for name, item in model.objectives.items()}
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


def _count_training(
    config: Config, model: nn.Module, loader: DataLoader, gpu: Gpu, plan: StagePlan
) -> None:
    """Estimate what a training step of the stage costs on a GPU, one with the most runs."""
    amp = config.optim_wrapper.get('type') in MIXED_PRECISION
    try:
        load_teachers(model)
        batch = next(iter(loader), None)
        if batch is None:
            raise DataError(f'{len(loader.dataset)} images make no batch')
        cost = count_step(model, batch, int(getattr(model, 'step', 0)))
    except CastkdError as error:
        plan.notes.append(f'a training step fails: {error}')
        return
    plan.seconds_per_step = gpu.seconds(cost.operations, amp=amp)
    held = sum(item.megabytes for item in plan.networks) * 2**20
    # Half of what is kept in float32: mixed precision keeps most of it in 16 bits.
    plan.cost = StageCost(cost.operations, held + cost.saved / (2 if amp else 1))
