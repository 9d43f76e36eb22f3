"""The work of a training step without the distiller: every run, view, objective and backward pass called directly."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from castkd.distiller import Distiller
from castkd.structures import STUDENT, Pass, PassResult, Step, source_view
from castkd.taps import record_taps

Parts = dict[str, Callable[[], Tensor | None]]
# mmseg calls ``forward`` of its heads, which no hook sees; the classifier gives the same tensor.
_SEEN = {'decode_head': 'decode_head.conv_seg'}


class BareStep:
    """Calls the parts of a step one by one; what a part gives is kept for those behind it.

    What the networks give is cut off from their graphs, so that objectives have a forward and a backward pass of
    their own; the networks' backward passes go on with the gradients that arrived at the cut. All graphs are alive
    together, as in a step of one summed loss.

    Args:
        distiller: The distiller; one step of it makes the targets that teachers give in the step.
        inputs: Normalised images (B, 3, H, W) per view of the batch.
        samples: Their data samples.
    """

    def __init__(
        self, distiller: Distiller, inputs: dict[str, Tensor], samples: dict[str, list]
    ) -> None:
        with torch.no_grad():
            distiller(inputs, samples, mode='loss')
        self.distiller = distiller
        self.targets = distiller.last_step.targets
        self.step = Step(0, dict(inputs), dict(samples))
        self.cuts: dict[tuple[str, str], list[tuple[Tensor, Tensor]]] = {}

    def parts(self) -> Parts:
        """Return the parts by name, in the order in which they have to be called."""
        parts: Parts = {}
        plan = self.distiller.plan(0)
        for request in plan:
            for view in self._derived(source_view(request.view)):
                parts.setdefault(f'mixing, {view}', partial(self.derive, view))
            kind = 'teacher' if request.network in self.distiller.teachers else request.kind
            run = self.teach if kind == 'teacher' else self.run
            parts[f'{request.network} {kind}, {request.view}'] = partial(run, request)
        for name, objective in self.distiller.objectives.items():
            if objective.weight(0):
                parts[f'objective {name}'] = partial(self.learn, name)
        for request in plan:
            if request.network not in self.distiller.teachers and request.grad:
                name = f'{request.network} backward, {request.view}'
                parts[name] = partial(self.backward, (request.network, request.view))
        return parts

    def _derived(self, view: str) -> list[str]:
        """Return the views that have to be made for a view, the first one first."""
        views: list[str] = []
        while view in self.distiller.views:
            views.insert(0, view)
            view = self.distiller.views[view].source
        return views

    def derive(self, view: str) -> None:
        """Make a derived view."""
        maker, step = self.distiller.views[view], self.step
        derived = maker(step.inputs[maker.source], step.samples[maker.source])
        step.inputs[view], step.samples[view] = derived.inputs, derived.samples
        step.carries[view] = derived.carry

    def teach(self, request: Pass) -> None:
        """Run a teacher."""
        inputs, samples = self._batch(request)
        teacher = self.distiller.teachers[request.network]
        self.step.results[request.network, request.view] = teacher.run(request, inputs, samples)

    def run(self, request: Pass) -> None:
        """Run what is trained by the library's own methods."""
        student = request.network == STUDENT
        network = self.distiller.student if student else self.distiller.peers[request.network]
        inputs, samples = self._batch(request)
        calls = {
            'encode': lambda: network.extract_feat(inputs),
            'dense': lambda: _dense(network, inputs),
            'forward': lambda: network(inputs, samples, mode='tensor'),
            'loss': lambda: network.loss(inputs, self.targets.get(request.view, samples)),
        }
        paths = tuple(_SEEN.get(path, path) for path in request.taps)
        with (
            nullcontext() if request.grad else torch.no_grad(),
            record_taps(network, paths) as taps,
        ):
            found = calls[request.kind]()
        cuts: list[tuple[Tensor, Tensor]] = []
        result = PassResult(
            taps={path: _cut(taps[_SEEN.get(path, path)], cuts) for path in request.taps}
        )
        if request.kind == 'loss':
            result.losses = _cut(found, cuts)
        self.cuts[request.network, request.view] = cuts
        self.step.results[request.network, request.view] = result

    def learn(self, name: str) -> Tensor:
        """Run an objective on what the networks gave, and back to there; return the weighted loss."""
        objective = self.distiller.objectives[name]
        total, _ = self.distiller.student.parse_losses(objective(self.step))
        total = objective.weight(0) * total
        total.backward()
        return total.detach()

    def backward(self, key: tuple[str, str]) -> None:
        """Let the gradients flow through a network, and drop the graph."""
        reached = [
            (value, leaf.grad) for value, leaf in self.cuts.pop(key) if leaf.grad is not None
        ]
        torch.autograd.backward(*map(list, zip(*reached, strict=True)))

    def _batch(self, request: Pass) -> tuple[Tensor, list]:
        view = source_view(request.view)
        return self.step.inputs[view], self.step.samples[view]


def _dense(network: nn.Module, inputs: Tensor) -> Any:
    """Run a detector up to the head that looks at every place."""
    head = network.rpn_head if hasattr(network, 'rpn_head') else network.bbox_head
    return head(network.extract_feat(inputs))


def _cut(value: Any, cuts: list[tuple[Tensor, Tensor]]) -> Any:
    """Return a nested value with leaves in place of the tensors of a graph; note both in ``cuts``."""

    def leaf(item: Any) -> Any:
        if not torch.is_tensor(item) or not item.requires_grad:
            return item
        cuts.append((item, item.detach().requires_grad_()))
        return cuts[-1][1]

    return tree_map(leaf, value)
