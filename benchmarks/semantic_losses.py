"""Time and peak memory of the losses of MGD, LAD, TransKD and of the standard ones, beside plain PyTorch forms.

    python benchmarks/semantic_losses.py --out semantic_losses.json

A plain form is the formula written down in the fewest lines, without checks, without chunks. Both run forward and
backward on the same tensors, in turn; each peak of memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import PeakMemory, make_parser, run_apart, seconds, write_results
from castkd import losses
from castkd.apis.command_line import run_tool

# Two Cityscapes crops of 512 x 1024: logits as they are compared with labels, maps at an eighth.
IMAGES, CLASSES, WIDTH = 2, 19, 256
FULL, EIGHTH = (512, 1024), (64, 128)
# What compares all pairs of pixels is measured at a sixteenth.
SIXTEENTH = (32, 64)


def _kl(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    wanted = teacher.softmax(dim)
    return (wanted * (wanted.log() - student.log_softmax(dim))).sum(dim)


def plain_ohem(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy over the hard pixels, found by sorting all of them."""
    loss = F.cross_entropy(logits, target, ignore_index=255, reduction='none').flatten()
    valid = (target != 255).flatten()
    with torch.no_grad():
        index = target.clamp(max=CLASSES - 1)[:, None]
        probability = logits.softmax(1).gather(1, index).flatten()
        ordered = probability[valid].sort().values
        limit = ordered[min(50_000 * IMAGES, len(ordered)) - 1].clamp(min=0.7)
    return loss[valid & (probability <= limit)].mean()


def plain_image_semantic(student: Tensor, teacher: Tensor) -> Tensor:
    """Return MGD's image level."""
    pooled = [F.adaptive_avg_pool2d(logits, 1).flatten(1) for logits in (student, teacher)]
    return 2 * (pooled[0] - pooled[1]).abs().sum(1).mean()


def plain_region_content(student: Tensor, teacher: Tensor) -> Tensor:
    """Return MGD's region level."""
    own, wanted = (
        F.normalize(F.adaptive_avg_pool2d(x, 7).flatten(2), dim=1) for x in (student, teacher)
    )
    return F.mse_loss(own.transpose(1, 2) @ own, wanted.transpose(1, 2) @ wanted)


def plain_channel_wise(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the channel-wise distillation at temperature 4."""
    return 16 * _kl(student.flatten(2) / 4, teacher.flatten(2) / 4, 2).mean()


def plain_dual_path(first: Tensor, second: Tensor) -> Tensor:
    """Return LAD's consistency of two paths."""
    return plain_channel_wise(first, second.detach()) + plain_channel_wise(second, first.detach())


def plain_hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Return TransKD's loss of feature maps."""
    total, weights = F.mse_loss(student, teacher), 1.0
    for level, weight in ((4, 0.5), (2, 0.25), (1, 0.125)):
        own, wanted = (F.adaptive_avg_pool2d(x, level) for x in (student, teacher))
        total, weights = total + weight * F.mse_loss(own, wanted), weights + weight
    return total / weights


def plain_logits(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KD at temperature 1."""
    return _kl(student, teacher, 1).mean()


def plain_pairwise(student: Tensor, teacher: Tensor) -> Tensor:
    """Return SKD's pair-wise term."""
    own, wanted = (
        F.normalize(F.max_pool2d(x, 2, ceil_mode=True).flatten(2), dim=1)
        for x in (student, teacher)
    )
    return F.mse_loss(own.transpose(1, 2) @ own, wanted.transpose(1, 2) @ wanted)


def plain_cross_image(student: Tensor, teacher: Tensor) -> Tensor:
    """Return CIRKD's mini-batch term, one pair of images after the other."""
    own, wanted = (F.normalize(x, dim=1).flatten(2).transpose(1, 2) for x in (student, teacher))
    pairs = [(i, j) for i in range(len(own)) for j in range(len(own))]
    terms = [
        _kl(own[i] @ own[j].T / 0.1, wanted[i] @ wanted[j].T / 0.1, 1).mean() for i, j in pairs
    ]
    return torch.stack(terms).mean()


def plain_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return DIST."""
    own, wanted = (x.softmax(1).transpose(0, 1).flatten(1) for x in (student, teacher))

    def pearson(dim: int) -> Tensor:
        first, second = (x - x.mean(dim, keepdim=True) for x in (own, wanted))
        return ((first * second).sum(dim) / (first.norm(dim=dim) * second.norm(dim=dim))).mean()

    return 2 - pearson(0) - pearson(1)


@dataclass(frozen=True)
class Case:
    """A loss and its plain form.

    Attributes:
        loss: What castkd has.
        plain: The plain form.
        channels: Channels of student and teacher.
        size: Height and width.
        labels: Whether the second input is a label map, of which a tenth is ignored.
        both: Whether the second input gets a gradient too.
    """

    loss: Callable
    plain: Callable
    channels: int
    size: tuple[int, int]
    labels: bool = False
    both: bool = False


CASES = {
    'OHEM': Case(losses.OHEMCrossEntropy(), plain_ohem, CLASSES, FULL, labels=True),
    'MGD image': Case(losses.image_semantic_loss, plain_image_semantic, CLASSES, FULL),
    'MGD region': Case(losses.region_content_loss, plain_region_content, WIDTH, EIGHTH),
    'LAD dual path': Case(
        losses.dual_path_consistency, plain_dual_path, CLASSES, EIGHTH, both=True
    ),
    'CWD': Case(losses.channel_wise_distillation, plain_channel_wise, CLASSES, EIGHTH),
    'TransKD HCL': Case(
        losses.hierarchical_context_loss, plain_hierarchical_context, WIDTH, EIGHTH
    ),
    'KD': Case(losses.logit_distillation, plain_logits, CLASSES, EIGHTH),
    'SKD pair-wise': Case(losses.pairwise_similarity, plain_pairwise, WIDTH, EIGHTH),
    'CIRKD': Case(losses.cross_image_relation, plain_cross_image, WIDTH, SIXTEENTH),
    'DIST': Case(losses.correlation_distillation, plain_correlation, CLASSES, EIGHTH),
}


def make_inputs(case: Case, device: str) -> tuple[Tensor, Tensor]:
    """Return seeded student and teacher maps, or logits and labels."""
    torch.manual_seed(0)
    shape = (IMAGES, case.channels, *case.size)
    student = torch.randn(shape, device=device, requires_grad=True)
    if not case.labels:
        return student, torch.randn(shape, device=device, requires_grad=case.both)
    labels = torch.randint(case.channels, (IMAGES, *case.size), device=device)
    return student, labels.masked_fill(torch.rand(labels.shape, device=device) < 0.1, 255)


def run(form: Callable, inputs: tuple[Tensor, Tensor]) -> Tensor:
    """Run a form forward and backward; return its value."""
    for tensor in inputs:
        tensor.grad = None
    value = form(*inputs)
    value.backward()
    return value.detach()


def peak(name: str, form: str, device: str) -> float:
    """Return the peak of memory of one run in this process, in MiB."""
    case = CASES[name]
    inputs = make_inputs(case, device)
    with PeakMemory(device) as memory:
        run(getattr(case, form), inputs)
    return memory.mib


def measure(name: str, options: argparse.Namespace) -> dict:
    """Return seconds, peaks and ratio of both forms of a loss."""
    case = CASES[name]
    inputs = make_inputs(case, options.device)
    times = {'loss': [], 'plain': []}
    for _ in range(options.repeat + 1):
        for form, found in times.items():
            found.append(
                seconds(lambda form=form: run(getattr(case, form), inputs), options.device)
            )
    # The first runs fill caches.
    fastest = {form: min(found[1:]) for form, found in times.items()}
    memory = {form: run_apart(peak, name, form, options.device) for form in times}
    ratio = fastest['loss'] / fastest['plain']
    return {'loss': name, 'seconds': fastest, 'peak_mib': memory, 'ratio': ratio}


def show(rows: list[dict], console: Console) -> None:
    """Print the measurements as a table."""
    table = Table('loss', 'ms', 'plain ms', 'ratio', 'MiB', 'plain MiB')
    for row in rows:
        times, memory = row['seconds'], row['peak_mib']
        table.add_row(
            row['loss'],
            *(f'{1000 * times[form]:.1f}' for form in ('loss', 'plain')),
            f'{row["ratio"]:.2f}',
            *(f'{memory[form]:.0f}' for form in ('loss', 'plain')),
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = make_parser(__doc__, repeat=5)
    parser.add_argument('--losses', nargs='+', choices=CASES, default=list(CASES), metavar='NAME')
    options = parser.parse_args(arguments)
    console = Console()
    rows = []
    for name in options.losses:
        console.print(f'{name} ...')
        rows.append(measure(name, options))
    show(rows, console)
    if options.out:
        write_results(options.out, {'rows': rows}, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
