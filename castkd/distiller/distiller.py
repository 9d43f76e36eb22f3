"""One training step: student, teachers and objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import is_distributed
from mmengine.model import BaseModel, ModuleDict
from torch import Tensor, nn

from castkd.activation_checkpointing import checkpoint_activations
from castkd.adapters import adapter_for
from castkd.batch_norms import frozen_batch_statistics, single_values_in_one_line
from castkd.checkpoints import load_checkpoint, load_strict, student_state
from castkd.distiller.preprocessor import MultiViewPreprocessor
from castkd.distiller.views import DerivedView, check_views, provide_view
from castkd.errors import ConfigError, TrainingError, near_names
from castkd.objectives.base import Objective
from castkd.registry import MODELS, build_model
from castkd.structures import (
    STUDENT,
    Pass,
    PassResult,
    PseudoTargets,
    Step,
    merge_passes,
    source_view,
)
from castkd.taps import Tap, record_taps
from castkd.teachers import Teacher, TeacherBank

Losses = dict[str, Tensor | list[Tensor]]
Requests = tuple[tuple[str, Pass], ...]  # with the name of the objective that asks


@MODELS.register_module()
class Distiller(BaseModel):
    """Trains a student with teachers and objectives; predicts with the student.

    Args:
        student: Config of any mmdet or mmseg model (with ``_scope_``), or the model.
        teachers: Teacher config per name, see :mod:`castkd.teachers`.
        peers: Config of any mm model, or the model, per name: networks that are trained beside the student and not
            handed over.
        views: Derived view config per name, see :mod:`castkd.distiller.views`: views that are made in the step.
        objectives: Objective config per name, see :mod:`castkd.objectives`; the name prefixes the logged losses.
        pseudo_labeler: Config of what turns teacher outputs into targets within a step; None when no objective asks.
        data_preprocessor: Image preprocessing of all views; None wraps the student's own.
        student_checkpoint: File of the student's first weights (a distiller's or a plain model's), loaded strictly.
        classes: The student's class names, compared with the teachers'.
        activation_checkpointing: Paths of the student's modules, ``*`` for anything, whose activations are computed
            again in the backward run in place of being kept: less memory for more time, see
            :func:`~castkd.activation_checkpointing.checkpoint_activations`.
        init_cfg: As of every mm model.

    Shape:
        - ``inputs``: dict view -> (B, 3, H, W) in training, (B, 3, H, W) otherwise.
        - ``data_samples``: dict view -> list of B data samples in training, a list otherwise.

    Raises:
        ConfigError: When an objective names a network or tap that does not exist, or two parts have one name.
    """

    def __init__(
        self,
        student: dict | nn.Module,
        teachers: Mapping[str, dict | Teacher] | None = None,
        peers: Mapping[str, dict | nn.Module] | None = None,
        views: Mapping[str, dict | DerivedView] | None = None,
        objectives: Mapping[str, dict | Objective] | None = None,
        pseudo_labeler: dict | Callable | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        student_checkpoint: str | None = None,
        classes: tuple[str, ...] | None = None,
        activation_checkpointing: Sequence[str] = (),
        init_cfg: dict | None = None,
    ) -> None:
        network = build_model(student)
        if data_preprocessor is None:
            data_preprocessor = MultiViewPreprocessor(network.data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.student = network
        self.teachers = TeacherBank(teachers, network)
        self.peers = ModuleDict({name: build_model(peer) for name, peer in (peers or {}).items()})
        self.views = {name: build_model(view) for name, view in (views or {}).items()}
        self.objectives = nn.ModuleDict(
            {name: build_model(objective) for name, objective in (objectives or {}).items()}
        )
        self.pseudo_labeler = build_model(pseudo_labeler)
        checkpoint_activations(network, activation_checkpointing)
        self.student_checkpoint = student_checkpoint
        self.classes = tuple(classes) if classes else None
        self.register_buffer('step', torch.zeros((), dtype=torch.long))
        self.last_step: Step | None = None
        self.last_losses: dict[str, Tensor] = {}
        self._plans: dict[Requests, list[Pass]] = {}
        check_views(self.views)
        self._check_names()
        trained = {STUDENT: self.student, **self.peers}
        for objective in self.objectives.values():
            objective.bind(trained, self.teachers)
        self._check_passes()

    # ---- building -------------------------------------------------------------------------------------------------

    def _check_names(self) -> None:
        """Refuse a name that two networks have."""
        twice = {STUDENT, *self.peers} & set(self.teachers) or {STUDENT} & set(self.peers)
        if twice:
            raise ConfigError(
                f'two networks are called {sorted(twice)[0]!r}; student, peers and teachers need names of their own'
            )

    def _check_passes(self) -> None:
        """Check every pass of every objective, whatever its weight is now."""
        for request in self._merge(self._requests()):
            known = {STUDENT, *self.peers, *self.teachers}
            if request.network not in known:
                hint = near_names(request.network, known)
                raise ConfigError(f'objectives: no network is called {request.network!r}; {hint}')
            if request.targets is not None and request.view in self.views:
                raise ConfigError(
                    f'view {request.view!r} is made in the step and has no geometry by which pseudo-labels of '
                    f'{request.targets.view!r} could be carried into it; learn on a view of the pipeline'
                )
            network = self.network(request.network)
            for path in request.taps:
                Tap.parse(path).resolve(network)
            if request.drop_empty and request.taps and not adapter_for(network).partial_loss:
                raise ConfigError(
                    f'{type(network).__name__} on view {request.view!r}: taps cannot be read when '
                    'images without labels are dropped; set drop_empty=False'
                )

    def network(self, name: str) -> nn.Module:
        """Return the student, a peer, or the network of a teacher, by the name that passes have."""
        if name == STUDENT:
            return self.student
        return self.peers[name] if name in self.peers else self.teachers[name].model

    def init_weights(self) -> None:
        """Initialise the student and load what files give: student and teachers.

        Raises:
            CheckpointError: When a file is missing, damaged, unsafe or of another model.
            ConfigError: When a teacher's classes are not the student's and no mapping is declared.
        """
        super().init_weights()
        if self.student_checkpoint:
            content = load_checkpoint(self.student_checkpoint)
            load_strict(self.student, student_state(content), str(self.student_checkpoint))
        for teacher in self.teachers.values():
            teacher.load()
            teacher.connect(self.student, self.classes)

    def _dump_init_info(self) -> None:
        """Leave out mmengine's list of how each single parameter was initialised."""

    def provenance(self) -> dict[str, dict]:
        """Return file and SHA-256 per teacher that was read from a file."""
        found = {name: teacher.provenance() for name, teacher in self.teachers.items()}
        return {name: origin for name, origin in found.items() if origin}

    # ---- the step -------------------------------------------------------------------------------------------------

    def plan(self, step: int = 0) -> list[Pass]:
        """Return the runs of training step ``step``: each network at most once per view, teachers first."""
        asked = self._requests(step)
        if asked not in self._plans:
            self._plans[asked] = self._merge(asked)
        return self._plans[asked]

    def batch_views(self) -> set[str]:
        """Return the views of a batch that objectives read, whatever their weights are, or make other views from."""
        found = set()
        for request in self._merge(self._requests()):
            view = source_view(request.view)
            while view in self.views:
                view = self.views[view].source
            found.add(view)
        return found

    def _requests(self, step: int | None = None) -> Requests:
        """Return what objectives ask for at a step, or whatever their weights are."""
        return tuple(
            (name, request)
            for name, objective in self.objectives.items()
            if step is None or objective.weight(step)
            for request in objective.passes()
            if step is None or request.needed(step)
        )

    def _merge(self, asked: Requests) -> list[Pass]:
        requests = []
        for name, request in asked:
            requests.append(request)
            if request.targets is not None:
                requests.append(self._labeler(name).request(request.targets))
        return merge_passes(requests, {STUDENT, *self.peers})

    def _labeler(self, objective: str) -> Callable:
        if self.pseudo_labeler is None:
            raise ConfigError(
                f'objectives.{objective} takes pseudo-labels from a teacher in the step; set pseudo_labeler'
            )
        return self.pseudo_labeler

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:  # noqa: ANN401
        """Train on views (``mode='loss'``) or run the student (``'predict'``, ``'tensor'``)."""
        if mode == 'loss':
            if not isinstance(inputs, Mapping):
                inputs, data_samples = {'sup': inputs}, {'sup': data_samples}
            with single_values_in_one_line(self):
                return self.loss(inputs, data_samples)
        return self.student(inputs, data_samples, mode=mode)

    def loss(self, inputs: Mapping[str, Tensor], data_samples: dict[str, list]) -> Losses:
        """Run one training step and return weighted losses and statistics by name."""
        step = Step(int(self.step), dict(inputs), dict(data_samples))
        for teacher in self.teachers.values():
            teacher.before_step(self.student, step.index)
        for request in self.plan(step.index):
            step.results[request.network, request.view] = self.run_pass(request, step)
        losses: Losses = {}
        for name, objective in self.objectives.items():
            weight = objective.weight(step.index)
            if weight:
                losses.update(_weighted(name, objective(step), weight))
        self.step += 1
        # Hooks look at data and teachers; keeping results of what is trained would keep its graph.
        step.results = {
            key: value for key, value in step.results.items() if key[0] in self.teachers
        }
        self.last_step = step
        self.last_losses = {name: _total(value).detach() for name, value in losses.items()}
        losses.update({name: _tensor(value, self.step) for name, value in step.statistics.items()})
        return losses

    def set_step(self, step: int) -> None:
        """Set the number of finished steps, which schedules and moving averages follow."""
        self.step.fill_(step)

    def run_pass(self, request: Pass, step: Step) -> PassResult:
        """Run one network on one view of a step; results that the pass takes its targets from are in the step."""
        view = source_view(request.view)
        provide_view(view, step, self.views)
        inputs, samples = step.inputs[view], step.samples[view]
        if request.network in self.teachers:
            return self.teachers[request.network].run(request, inputs, samples)
        if request.grad:
            return self._run_trained(request, step, inputs, samples)
        with torch.no_grad(), frozen_batch_statistics(self.network(request.network)):
            return self._run_trained(request, step, inputs, samples)

    def _run_trained(self, request: Pass, step: Step, inputs: Tensor, samples: list) -> PassResult:
        network = self.network(request.network)
        adapter = adapter_for(network)
        result = PassResult()
        with record_taps(network, request.taps) as taps:
            if request.kind == 'encode':
                adapter.encode(network, inputs)
            elif request.kind == 'loss':
                samples = self._targets(request, step, samples)
                step.targets[request.view] = samples
                keep = [
                    index
                    for index, sample in enumerate(samples)
                    if not request.drop_empty or adapter.has_targets(sample)
                ]
                result.losses = adapter.loss(network, inputs, samples, keep)
            else:
                run = adapter.dense if request.kind == 'dense' else adapter.forward
                result.outputs = run(network, inputs, samples)
        result.taps = taps
        return result

    def _targets(self, request: Pass, step: Step, samples: list) -> list:
        targets: PseudoTargets | None = request.targets
        if targets is None:
            return samples
        batch = self.pseudo_labeler(
            step[targets.teacher, targets.view],
            self.teachers[targets.teacher],
            step.samples[targets.view],
            samples,
        )
        step.pseudo[targets.teacher, targets.view, request.view] = batch.samples
        step.statistics.update({f'pseudo.{key}': value for key, value in batch.statistics.items()})
        return batch.samples

    def parse_losses(self, losses: Losses) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the losses, and stop when one is not finite.

        Raises:
            TrainingError: Naming the losses that are not finite; the weights are those before the step.
        """
        total, log = super().parse_losses(losses)
        if is_distributed():
            total = total + self._idle_parameters(int(self.step) - 1)
        if not torch.is_tensor(total):
            raise TrainingError(
                f'no objective gave a loss at step {int(self.step) - 1}; objectives: {list(self.objectives)}'
            )
        if not torch.isfinite(total):
            wrong = [
                f'{key}={value.item()}' for key, value in log.items() if not torch.isfinite(value)
            ]
            raise TrainingError(
                f'loss is not finite at step {int(self.step) - 1}: {", ".join(wrong)}. Training stops; the last '
                'checkpoint is good. Look at the learning rate, the labels of this batch, and mixed precision'
            )
        return total, log

    def _idle_parameters(self, step: int) -> Tensor | float:
        """Return zero that depends on peers and objectives without part in the step: DDP waits for each gradient."""
        used = {request.network for request in self.plan(step)}
        asking = {name for name, _ in self._requests(step)}
        idle = [item for name, item in self.objectives.items() if name not in asking]
        idle += [peer for name, peer in self.peers.items() if name not in used]
        return 0.0 * sum(parameter.sum() for module in idle for parameter in module.parameters())

    # ---- teachers follow the module without being part of it ------------------------------------------------------

    def _apply(self, fn: Callable, recurse: bool = True) -> Distiller:
        self.teachers.apply(fn)
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for key, value in self.teachers.state().items():
            destination[prefix + key] = value

    def _load_from_state_dict(
        self,
        state_dict: dict,
        prefix: str,
        local_metadata: dict,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        with torch.no_grad():
            for key, value in self.teachers.state().items():
                if prefix + key in state_dict:
                    value.copy_(state_dict.pop(prefix + key))
                else:
                    missing_keys.append(prefix + key)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _total(value: Tensor | list[Tensor]) -> Tensor:
    return sum(item.mean() for item in value) if isinstance(value, list) else value.mean()


def _weighted(name: str, losses: Losses, weight: float) -> Losses:
    """Prefix names; multiply what counts as a loss (mm sums entries with ``loss`` in their name)."""
    weighted: Losses = {}
    for key, value in losses.items():
        if 'loss' in key:
            value = [item * weight for item in value] if isinstance(value, list) else value * weight
        weighted[f'{name}.{key}'] = value
    return weighted


def _tensor(value: float | Tensor, like: Tensor) -> Tensor:
    return value if torch.is_tensor(value) else torch.tensor(float(value), device=like.device)
