"""What a training step and a prediction cost on any machine: operations and memory, counted on one image.

Networks are run for real, on the device that is there, as a step runs them; nothing is trained. Operations of a
backward run are taken as twice those of the forward run of what trains, and once those of what is recomputed in it.
What objectives compute themselves is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from castkd.activation_checkpointing import recomputed_modules
from castkd.errors import DataError
from castkd.structures import Pass, Step, source_view


@dataclass(frozen=True)
class RunCost:
    """What one run of a network on one image costs.

    Attributes:
        forward: Operations (two per multiply-add).
        backward: The same of its backward run, 0 without one.
        saved: Bytes kept for the backward run.
    """

    forward: float
    backward: float
    saved: float


@dataclass(frozen=True)
class StepCost:
    """What one training step of a process costs.

    Attributes:
        operations: Of all runs on all images of the batch.
        saved: Bytes that all runs keep for the backward run, in the precision of the networks' weights.
    """

    operations: float
    saved: float


def operation_counter() -> FlopCounterMode:
    """Return torch's counter of operations, which also counts attention as CPUs compute it."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={attention: _attention_operations})
    counter.mod_tracker = _NoModules()
    return counter


class _NoModules(nullcontext):
    """Stands for the counter's tracker of modules: only the sum is read here.

    The tracker's hooks also fail on a module that gives a view of its weights where there is no gradient, such as SAM
    2's encoder of prompts.
    """

    parents = frozenset({'Global'})


def _attention_operations(
    query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object
) -> int:
    return sdpa_flop_count(query, key, value)


def load_teachers(model: nn.Module) -> None:
    """Prepare the teachers of a distiller for a step.

    Those whose files do not exist keep random weights, and count as teachers of the student's classes.
    """
    for teacher in getattr(model, 'teachers', {}).values():
        file = getattr(teacher, 'checkpoint', None)
        if file is None or Path(file).is_file():
            teacher.load()
        elif teacher.classes is None:
            teacher.classes = model.classes
        teacher.connect(model.student, model.classes)


def count_step(model: nn.Module, batch: Mapping[str, Any], index: int = 0) -> StepCost:
    """Count a training step.

    Every run is counted on the image of its view with the most objects, padded as the batch is.

    Args:
        model: Distiller or plain model.
        batch: From the training loader.
        index: Training step, which schedules of weights follow.

    Raises:
        CastkdError: When a run fails.
    """
    data = model.data_preprocessor(batch, True)
    inputs, samples = data['inputs'], data['data_samples']
    model.eval()
    if not hasattr(model, 'plan'):
        images, (one, chosen) = len(inputs), _fullest(inputs, samples)
        cost = count_run(model, lambda: model(one, chosen, mode='loss'))
        return _sum([(cost, images)])
    images = {view: len(value) for view, value in inputs.items()}
    step = Step(index, {}, {})
    for view, value in inputs.items():
        step.inputs[view], step.samples[view] = _fullest(value, samples[view])
    counted: dict[tuple, RunCost] = {}
    costs = []
    for request in model.plan(index):
        view = source_view(request.view)
        key = _key(request, step.inputs.get(view))
        if key not in counted:
            counted[key] = _count_pass(model, request, step)
        while view in model.views:
            view = model.views[view].source
        costs.append((counted[key], images[view]))
    return _sum(costs)


def _count_pass(model: nn.Module, request: Pass, step: Step) -> RunCost:
    network = model.network(request.network)

    def run() -> None:
        step.results[request.network, request.view] = model.run_pass(request, step)

    return count_run(network, run, grad=request.grad)


def _key(request: Pass, images: Tensor | None) -> tuple:
    """Return what runs of one cost have in common; labels of a teacher make a run one of its own."""
    shape = None if images is None else tuple(images.shape)
    kind = (request.network, request.kind, request.grad, shape)
    return kind if request.targets is None and shape else (*kind, request.view)


def _sum(costs: list[tuple[RunCost, int]]) -> StepCost:
    return StepCost(
        operations=sum((cost.forward + cost.backward) * count for cost, count in costs),
        saved=sum(cost.saved * count for cost, count in costs),
    )


def _fullest(images: Tensor, samples: Any) -> tuple[Tensor, Any]:  # noqa: ANN401 - lists of data samples
    """Return the image of a batch with the most objects, and its sample, as a batch of one."""
    counts = [len(getattr(sample, 'gt_instances', ())) for sample in samples]
    best = counts.index(max(counts))
    # A copy: a part of the batch would keep the memory of all of it.
    return images[best : best + 1].clone(), samples[best : best + 1]


def count_run(network: nn.Module, run: Callable[[], object], *, grad: bool = True) -> RunCost:
    """Count one run of a network.

    Args:
        network: The network.
        run: Runs it on one image.
        grad: Whether a backward run follows. What it would need is counted and let go, so that the run takes no more
            memory than a prediction.
    """
    counter = operation_counter()
    kept = _Kept(network)
    with (
        counter,
        _part(_frozen_modules(network), counter) as frozen,
        _part(recomputed_modules(network), counter) as recomputed,
        torch.set_grad_enabled(grad),
        kept,
    ):
        run()
    forward = float(counter.get_total_flops())
    backward = 2.0 * (forward - sum(frozen)) + sum(recomputed) if grad else 0.0
    return RunCost(forward, backward, float(kept.bytes))


class _Kept:
    """Counts the bytes of what autograd keeps while it is open, each storage once and without weights."""

    def __init__(self, network: nn.Module) -> None:
        weights = [*network.parameters(), *network.buffers()]
        # A reference keeps the identity of a storage from being given to another one, but not its memory.
        self._seen = {ref.cdata: ref for ref in map(_reference, weights)}
        self._hooks = saved_tensors_hooks(self._pack, _unpack)
        self.bytes = 0

    def _pack(self, value: Tensor) -> None:
        reference = _reference(value)
        if reference.cdata not in self._seen:
            self._seen[reference.cdata] = reference
            self.bytes += value.untyped_storage().nbytes()

    def __enter__(self) -> None:
        self._hooks.__enter__()

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)


def _reference(value: Tensor) -> StorageWeakRef:
    return StorageWeakRef(value.untyped_storage())


def _unpack(kept: None) -> Tensor:
    raise RuntimeError('a counted run has no backward run')


@contextmanager
def _part(modules: Iterable[nn.Module], counter: FlopCounterMode) -> Iterator[list[float]]:
    """Give a list that fills with the operations of modules, none of which is inside another."""
    counts: list[float] = []
    started: list[float] = []
    with ExitStack() as stack:
        for module in modules:
            before = module.register_forward_pre_hook(
                lambda *_: started.append(counter.get_total_flops())
            )
            after = module.register_forward_hook(
                lambda *_: counts.append(counter.get_total_flops() - started.pop())
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        yield counts


def _frozen_modules(module: nn.Module) -> Iterator[nn.Module]:
    """Give the largest modules that have weights, none of which trains."""
    weights = list(module.parameters())
    if weights and not any(value.requires_grad for value in weights):
        yield module
        return
    for child in module.children():
        yield from _frozen_modules(child)


@torch.no_grad()
def count_prediction(model: nn.Module, loader: DataLoader) -> float:
    """Return the operations of a prediction of one validation image.

    Raises:
        CastkdError: When an image cannot be read or predicted, or there is none.
    """
    batch = next(iter(loader), None)
    if batch is None:
        raise DataError(
            f'{len(loader.dataset)} images make no batch; check the data, batch_size and drop_last'
        )
    model.eval()
    with operation_counter() as counter:
        model.val_step(batch)
    return counter.get_total_flops() / len(batch['inputs'])
