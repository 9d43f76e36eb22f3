"""One training step of the distiller beside the sum of its bare parts.

    python benchmarks/distillation_step.py --out step.json
    python benchmarks/distillation_step.py --online

The step is CAST's, with the networks and the batch of a stage config: the student's loss on labelled
and on pseudo-labelled images, and the contrastive loss between weak and strong views, from normalised
images to gradients. The parts are the same work called directly: the student's own loss, forward and
backward, per view; its encoder on the strong views; projector and contrastive loss, forward and
backward; and with ``--online`` the teacher's predictions, of which the step then makes the
pseudo-labels. The graphs of both views are alive together, as in any step of one summed loss. Each
round times the step and every part, in turn first the one and first the other; medians over rounds.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import ROOT, discs, make_parser, quiet_logs, seconds, write_results
from castkd.apis.command_line import run_tool
from castkd.distiller import Distiller
from castkd.registry import build_model

CONFIG = ROOT / 'configs/cast/nuclei128/distill.py'
TEACHER = ROOT / 'configs/cast/nuclei128/teacher.py'
OBJECTS = 8  # per image, as in the mean of nuclei128
VIEWS = {
    'sup': 'labeled',
    'sup_strong': 'labeled',
    'unsup_teacher': 'unlabeled',
    'unsup_student': 'unlabeled',
}
LABELLED, UNLABELLED, CONTRAST = 'sup', 'unsup', 'cast'  # objectives of the config

Parts = dict[str, Callable[[], Tensor | None]]
Batch = tuple[dict[str, Tensor], dict[str, list]]


def build_distiller(config: Config, online: bool) -> Distiller:
    """Return the stage's distiller from seeded random weights.

    Args:
        config: Stage config of CAST. Its ``teacher``, a network's config, labels if ``online``; without, the nuclei's.
        online: Whether a frozen teacher labels the unlabelled view in the step, instead of a file before it.
    """
    quiet_logs()
    torch.manual_seed(0)
    model = copy.deepcopy(config.model)
    with tempfile.TemporaryDirectory() as folder:
        if online:
            file = Path(folder) / 'teacher.pth'
            teacher = config.get('teacher') or Config.fromfile(TEACHER).teacher
            network = build_model(teacher)
            network.init_weights()
            torch.save({'state_dict': network.state_dict(), 'meta': {}}, file)
            model.teachers = {
                'online': {
                    'type': 'castkd.FrozenTeacher',
                    'model': teacher,
                    'checkpoint': str(file),
                    'classes': model.classes,
                }
            }
            model.pseudo_labeler = {'type': 'castkd.InstancePseudoLabeler', 'score_thr': 0.5}
            objective = model.objectives[UNLABELLED]
            objective.update(teacher='online', teacher_view=objective.view)
        distiller = build_model(model)
        distiller.init_weights()
    for teacher in distiller.teachers.values():
        find_labels(teacher.model)
    return distiller.train()


def find_labels(network: nn.Module) -> None:
    """Let a network of random weights, which would find nothing, predict the labels of an image after its run."""
    run = network.predict

    def predict(inputs: Tensor, samples: list, rescale: bool) -> list:
        found = run(inputs, samples, rescale=rescale)
        for sample in found:
            labels = sample.gt_instances
            sample.pred_instances = InstanceData(
                scores=torch.ones_like(labels.labels, dtype=torch.float32),
                labels=labels.labels,
                bboxes=labels.bboxes,
                masks=labels.masks.to_tensor(torch.bool, inputs.device),
            )
        return found

    network.predict = predict


def make_batch(config: Config, device: str) -> Batch:
    """Return normalised images (B, 3, H, W) and data samples per view, as many as the stage draws."""
    rng = np.random.default_rng(0)
    size = config.image_size[0]
    counts = config.train_dataloader.batch_sampler.counts
    inputs, samples = {}, {}
    for view, source in VIEWS.items():
        images = rng.standard_normal((counts[source], 3, size, size), dtype=np.float32)
        inputs[view] = torch.from_numpy(images).to(device)
        samples[view] = [make_sample(rng, size).to(device) for _ in images]
    return inputs, samples


def make_sample(rng: np.random.Generator, size: int) -> DetDataSample:
    """Return labels of an image: discs of the first class."""
    masks, boxes = discs(rng, size, OBJECTS)
    shape = (size, size)
    metainfo = {'img_shape': shape, 'ori_shape': shape, 'batch_input_shape': shape}
    sample = DetDataSample(metainfo={**metainfo, 'homography_matrix': np.eye(3, dtype=np.float32)})
    sample.gt_instances = InstanceData(
        labels=torch.zeros(OBJECTS, dtype=torch.long),
        bboxes=torch.from_numpy(boxes),
        masks=BitmapMasks(masks, *shape),
    )
    return sample


def run_step(distiller: Distiller, inputs: dict[str, Tensor], samples: dict[str, list]) -> Tensor:
    """Run the distiller's step and its backward pass; return the loss."""
    total, _ = distiller.parse_losses(distiller(inputs, samples, mode='loss'))
    total.backward()
    return total.detach()


def bare_parts(distiller: Distiller, inputs: dict[str, Tensor], samples: dict[str, list]) -> Parts:
    """Return what the step cannot do without, in its order; losses come weighted as in the step."""
    student, contrast = distiller.student, distiller.objectives[CONTRAST]
    with torch.no_grad(), recorded_calls(contrast) as calls:
        distiller(inputs, samples, mode='loss')
    targets = {**samples, **distiller.last_step.targets}
    parts: Parts = {}
    for name, teacher in distiller.teachers.items():
        view = distiller.objectives[UNLABELLED].view
        parts[f'{name} teacher, {view}'] = partial(
            predict, teacher.model, inputs[view], samples[view]
        )
    bare_losses = {}
    for name in (LABELLED, UNLABELLED):
        view, weight = distiller.objectives[name].view, distiller.objectives[name].weight(0)
        bare_losses[view] = BareLoss(student, inputs[view], targets[view], weight)
        parts[f'student forward, {view}'] = bare_losses[view].forward
    for _, strong in contrast.views:
        parts[f'encoder, {strong}'] = partial(encode, student, inputs[strong])
    parts['projector and contrast'] = partial(contrast_pixels, contrast, calls)
    for view, bare_loss in bare_losses.items():
        parts[f'student backward, {view}'] = bare_loss.backward
    return parts


@contextmanager
def recorded_calls(contrast: nn.Module) -> Iterator[dict[nn.Module, list[tuple]]]:
    """Record (arguments, keywords) of each call of the objective's projector and loss in a step."""
    calls = {contrast.projector: [], contrast.loss: []}

    def record(module: nn.Module, arguments: tuple, keywords: dict) -> None:
        calls[module].append((arguments, keywords))

    hooks = [module.register_forward_pre_hook(record, with_kwargs=True) for module in calls]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def predict(network: nn.Module, inputs: Tensor, samples: list) -> None:
    """Run a teacher."""
    with torch.no_grad():
        network.predict(inputs, [sample.clone() for sample in samples], rescale=False)


class BareLoss:
    """The student's own loss on one view; its graph lives from :meth:`forward` to :meth:`backward`."""

    def __init__(self, student: nn.Module, inputs: Tensor, targets: list, weight: float) -> None:
        self.student = student
        self.batch = (inputs, targets)
        self.weight = weight
        self.total: Tensor | None = None

    def forward(self) -> Tensor:
        """Return the weighted loss."""
        total, _ = self.student.parse_losses(self.student.loss(*self.batch))
        self.total = self.weight * total
        return self.total.detach()

    def backward(self) -> None:
        """Let the gradients flow and drop the graph."""
        self.total.backward()
        self.total = None


def encode(student: nn.Module, inputs: Tensor) -> None:
    """Run backbone and neck."""
    with torch.no_grad():
        student.extract_feat(inputs)


def contrast_pixels(contrast: nn.Module, calls: dict[nn.Module, list[tuple]]) -> Tensor:
    """Run projector and contrastive loss on the tensors that a step gave them, and their backward pass."""
    ((weak,), _), ((strong,), _) = calls[contrast.projector]
    (((_, _, *queries), options),) = calls[contrast.loss]
    anchor = contrast.projector(weak.detach().requires_grad_())
    with torch.no_grad():
        positive = contrast.projector(strong)
    loss = contrast.weight(0) * contrast.loss(anchor, positive, *queries, **options)
    loss.backward()
    return loss.detach()


def measure(distiller: Distiller, batch: Batch, rounds: int, device: str) -> dict:
    """Time the step and its parts.

    Returns:
        ``step`` and per part in ``parts``: median seconds; ``ratio``: median over rounds of the step by the sum of its
        parts in the same round.
    """
    step, parts = partial(run_step, distiller, *batch), bare_parts(distiller, *batch)

    def time_step() -> float:
        _start_alike(distiller)
        return seconds(step, device)

    def time_parts() -> dict[str, float]:
        _start_alike(distiller)
        return {name: seconds(part, device) for name, part in parts.items()}

    time_step(), time_parts()
    steps, bare = [], []
    for index in range(rounds):
        first, second = (time_step, time_parts) if index % 2 else (time_parts, time_step)
        found = {first: first(), second: second()}
        steps.append(found[time_step])
        bare.append(found[time_parts])
    return {
        'step': median(steps),
        'parts': {name: median(times[name] for times in bare) for name in parts},
        'ratio': median(
            whole / sum(times.values()) for whole, times in zip(steps, bare, strict=True)
        ),
    }


def _start_alike(distiller: Distiller) -> None:
    """Let both forms draw the same points and make their gradients anew."""
    torch.manual_seed(0)
    distiller.zero_grad()


def show(result: dict, console: Console) -> None:
    """Print medians and shares of the step."""
    table = Table('part', 'ms', 'share of the step')
    step, parts = result['step'], result['parts']
    rows = {**parts, 'sum of the parts': sum(parts.values()), 'step of the distiller': step}
    for name, value in rows.items():
        table.add_row(name, f'{1000 * value:.1f}', f'{value / step:.1%}')
    console.print(table)
    console.print(f'step by the sum of its parts: {result["ratio"]:.3f}')


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = make_parser(__doc__, repeat=15)
    parser.add_argument('--config', type=Path, default=CONFIG, help='stage config of CAST')
    parser.add_argument(
        '--online', action='store_true', help='a frozen teacher labels within the step'
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    config = Config.fromfile(options.config)
    distiller = build_distiller(config, options.online).to(options.device)
    result = measure(distiller, make_batch(config, options.device), options.repeat, options.device)
    show(result, Console())
    if options.out:
        write_results(options.out, result, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
