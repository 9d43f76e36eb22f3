"""What a dry run found out about stages, and the tables that show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from castkd.engine.gpus import UTILISATION, Gpu
from castkd.engine.manifest import DONE
from castkd.engine.recipe import TRAIN
from castkd.visualization.report import duration_text, images_text


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
class StageCost:
    """What a stage costs wherever it runs, counted on one image; None where it could not be.

    Attributes:
        step_operations: Floating-point operations of a training step of one process, backward run included.
        step_bytes: Memory of that step: weights, gradients, moments, and what is kept for the backward run.
        image_operations: Operations of a prediction of one image.
    """

    step_operations: float | None = None
    step_bytes: float | None = None
    image_operations: float | None = None


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
        passes: Runs of the networks in the busiest step, in words.
        losses: Name and weight of the objectives in that step.
        seconds_per_step: Of the busiest step, measured on real data on this machine, or estimated for a GPU; None when
            it could not be.
        mean_runs: Runs of a mean step relative to the busiest one, in (0, 1]: some objectives begin late. Times are
            scaled by it, as if all runs took the same.
        predictions: Images that are predicted, in all validations or by a stage that labels.
        seconds_per_image: Of a prediction, measured on validation images or estimated; None when it could not be.
        gpu: The GPU that times are estimated for; None when they are this machine's.
        cost: What was counted for it.
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
    mean_runs: float = 1.0
    predictions: int = 0
    seconds_per_image: float | None = None
    gpu: Gpu | None = None
    cost: StageCost = field(default_factory=StageCost)
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
        training = self.seconds_per_step * self.mean_runs * self.iterations
        return training + (self.prediction_seconds or 0.0)

    @property
    def estimate(self) -> str:
        """Time of the whole stage in words, empty when it is unknown."""
        return _about(self.seconds)


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
        stages.caption = f'still to do: {_about(sum(left))} on {_where(plans[0].gpu)}'
    costs = _cost_table(plans)
    return [table for table in (stages, steps, networks, costs, notes) if table.row_count]


def _where(gpu: Gpu | None) -> str:
    return 'this machine' if gpu is None else f'one {gpu.name}'


def _cost_table(plans: Sequence[StagePlan]) -> Table:
    """Return what stages cost on a GPU, without rows when none was asked for."""
    sizes = ('TFLOP per step', 'memory', 'TFLOP per predicted image', 'GPU hours')
    table = _table('estimated cost', 'stage', *sizes)
    for plan in plans:
        if plan.gpu is None or plan.seconds is None:
            continue
        cost = plan.cost
        table.add_row(
            plan.name,
            _tera(cost.step_operations),
            _memory(cost.step_bytes, plan.gpu),
            _tera(cost.image_operations),
            f'{plan.seconds / 3600:.2f}',
        )
    if table.row_count:
        gpu = plans[0].gpu
        table.caption = (
            f'An estimate, nothing was measured on this GPU ({gpu.name}). Operations counted on one image, without '
            f'losses, at {UTILISATION:.0%} of its {gpu.half:g} TFLOP/s (--amp) or {gpu.single:g} TFLOP/s; predictions '
            'at the latter. Reading images is not in it; memory is the least that a step needs.'
        )
    return table


def _tera(operations: float | None) -> str:
    return '' if operations is None else f'{operations / 1e12:.3g}'


def _memory(size: float | None, gpu: Gpu) -> str:
    if size is None:
        return ''
    text = f'{size / 1e9:.1f} GB'
    return (
        text
        if size < gpu.memory * 1e9
        else f'{text}, more than the {gpu.memory} GB of one {gpu.name}'
    )


def _about(seconds: float | None) -> str:
    return '' if seconds is None else f'~ {duration_text(seconds)}'


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, overflow='fold')
    return table
