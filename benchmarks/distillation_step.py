"""One training step of the distiller beside the sum of its bare parts.

    python benchmarks/distillation_step.py --out step.json
    python benchmarks/distillation_step.py --online
    python benchmarks/distillation_step.py --config configs/mgd/camvid/distill.py
    python benchmarks/distillation_step.py --config configs/gid/coco/distill.py --images 1 --repeat 3

The step is the first one of a stage config, CAST's on nuclei128 unless told otherwise, with its networks and its
batch (or, with ``--images``, a smaller one), from normalised images to gradients. The parts are the same
work called directly: each teacher and each trained network on each view, by the library's own methods;
views that are made in the step; the objectives, forward and backward, on what the networks gave; and the
networks' backward passes. With ``--online`` a frozen teacher's predictions become the pseudo-labels within
the step, which is no part. All graphs are alive together, as in any step of one summed loss. Each round
times the step and every part, in turn first the one and first the other; medians over rounds. The peak of
memory is that of a step in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare_step import BareStep
from benchmarks.common import (
    ROOT,
    PeakMemory,
    make_parser,
    quiet_logs,
    run_apart,
    seconds,
    write_results,
)
from benchmarks.step_batch import Batch, make_batch
from castkd.apis.command_line import run_tool
from castkd.distiller import Distiller
from castkd.registry import build_model

CONFIG = ROOT / 'configs/cast/nuclei128/distill.py'
TEACHER = ROOT / 'configs/cast/nuclei128/teacher.py'
UNLABELLED = 'unsup'  # objective of CAST's stages that takes pseudo-labels


def read_config(file: Path, images: int | None) -> Config:
    """Return a stage config whose batches hold at most ``images`` of each view; None for as many as it draws."""
    config = Config.fromfile(file)
    counts = config.train_dataloader.batch_sampler.counts
    if images is not None:
        counts.update({name: min(count, images) for name, count in counts.items()})
    config.model = without_files(config.model.to_dict())
    return config


def without_files(part: Any) -> Any:
    """Return a config whose networks start from random weights wherever it names a checkpoint of a backbone."""
    if isinstance(part, list | tuple):
        return type(part)(map(without_files, part))
    if not isinstance(part, dict):
        return part
    kept = {key: without_files(value) for key, value in part.items()}
    entries = kept.get('init_cfg')
    if isinstance(entries, list):
        kept['init_cfg'] = [entry for entry in entries if entry.get('type') != 'Pretrained']
    elif entries and entries.get('type') == 'Pretrained':
        kept['init_cfg'] = None
    return kept


def build_distiller(config: Config, online: bool) -> Distiller:
    """Return the stage's distiller from seeded random weights.

    Args:
        config: Stage config; its teachers are frozen ones. If ``online``, one of CAST, whose ``teacher``, a network's
            config, labels; without, the nuclei's.
        online: Whether a frozen teacher labels the unlabelled view in the step, instead of a file before it.
    """
    quiet_logs()
    torch.manual_seed(0)
    model = copy.deepcopy(config.model)
    model.setdefault('teachers', ConfigDict())
    if online:
        network = config.get('teacher') or Config.fromfile(TEACHER).teacher
        model.teachers.online = {'type': 'castkd.FrozenTeacher', 'model': network}
        model.pseudo_labeler = {'type': 'castkd.InstancePseudoLabeler', 'score_thr': 0.5}
        objective = model.objectives[UNLABELLED]
        objective.update(teacher='online', teacher_view=objective.view)
    with tempfile.TemporaryDirectory() as folder:
        for name, teacher in model.teachers.items():
            network = build_model(teacher.model)
            network.init_weights()
            teacher.update(checkpoint=f'{folder}/{name}.pth', classes=model.classes)
            torch.save({'state_dict': network.state_dict(), 'meta': {}}, teacher.checkpoint)
        distiller = build_model(model)
        distiller.init_weights()
    if online:
        find_labels(distiller.teachers['online'].model)
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


def run_step(distiller: Distiller, inputs: dict[str, Tensor], samples: dict[str, list]) -> Tensor:
    """Run the distiller's step and its backward pass; return the loss."""
    total, _ = distiller.parse_losses(distiller(inputs, samples, mode='loss'))
    total.backward()
    return total.detach()


def measure(distiller: Distiller, batch: Batch, rounds: int, device: str) -> dict:
    """Time the step and its parts.

    Returns:
        ``step`` and per part in ``parts``: median seconds; ``ratio``: median over rounds of the step by the sum of its
        parts in the same round; ``teachers``: share of the step that the teachers' parts take; ``objectives``: what the
        objectives take, forward and backward, relative to all other parts, those of the networks.
    """
    step, parts = partial(run_step, distiller, *batch), BareStep(distiller, *batch).parts()

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
    medians = {name: median(times[name] for times in bare) for name in parts}
    added = sum(value for name, value in medians.items() if name.startswith('objective '))
    taught = sum(value for name, value in medians.items() if ' teacher, ' in name)
    return {
        'step': median(steps),
        'parts': medians,
        'teachers': taught / median(steps),
        'objectives': added / (sum(medians.values()) - added),
        'ratio': median(
            whole / sum(times.values()) for whole, times in zip(steps, bare, strict=True)
        ),
    }


def peak_memory(config: Config, online: bool, device: str) -> float:
    """Return the peak of memory of a step above what networks and batch hold, in MiB; for a process of its own."""
    distiller = build_distiller(config, online).to(device)
    batch = make_batch(config, distiller, device)
    with PeakMemory(device) as peak:
        run_step(distiller, *batch)
    return peak.mib


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
    console.print(f'objectives: {result["objectives"]:.1%} of what the networks take')
    console.print(
        f'teachers: {result["teachers"]:.1%} of the step; peak of memory: {result["peak_mib"]:.0f} MiB'
    )


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = make_parser(__doc__, repeat=15)
    parser.add_argument('--config', type=Path, default=CONFIG, help='stage config')
    parser.add_argument(
        '--online', action='store_true', help='CAST: a frozen teacher labels within the step'
    )
    parser.add_argument(
        '--images', type=int, help='at most so many per view (default: as the config)'
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    config = read_config(options.config, options.images)
    distiller = build_distiller(config, options.online).to(options.device)
    batch = make_batch(config, distiller, options.device)
    result = measure(distiller, batch, options.repeat, options.device)
    result['peak_mib'] = run_apart(peak_memory, config, options.online, options.device)
    show(result, Console())
    if options.out:
        write_results(options.out, result, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
