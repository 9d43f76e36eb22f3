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


def halves(feature: Tensor) -> tuple[Tensor, ...]:
    """Return two maps (B, C / 2, h, w) of one."""
    return feature.chunk(2, dim=1)


def _kl(student: Tensor, teacher: Tensor, dim: int) -> Tensor:
    wanted = teacher.softmax(dim)
    return (wanted * (wanted.log() - student.log_softmax(dim))).sum(dim)


def plain_pixels(logits: Tensor, target: Tensor) -> Tensor:
    """Return MGD's pixel level as PyTorch has it."""
    return F.cross_entropy(logits, target, ignore_index=255)


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


def plain_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error: FitNets, and TransKD's loss of patch embeddings."""
    return F.mse_loss(student, teacher)


def _attention(feature: Tensor) -> Tensor:
    return F.normalize(feature.square().mean(1).flatten(1))


def plain_attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Return AT."""
    return F.mse_loss(_attention(student), _attention(teacher))


def plain_attention_moves(student: Tensor, teacher: Tensor) -> Tensor:
    """Return DSD's pixel-wise term of two maps, the halves of the channels."""
    own, wanted = ([_attention(x) for x in halves(side)] for side in (student, teacher))
    return F.mse_loss(F.normalize(own[1] - own[0]), F.normalize(wanted[1] - wanted[0]))


def plain_overlaps(student: Tensor, teacher: Tensor) -> Tensor:
    """Return DSD's category-wise term."""
    own, wanted = ((F.avg_pool2d(x, 2).flatten(2) / 4).softmax(2) for x in (student, teacher))
    return F.mse_loss(own @ own.transpose(1, 2), wanted @ wanted.transpose(1, 2))


def plain_variation(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Return IFVD, one class of an image after the other as its authors' code has it."""
    total = student.new_zeros(())
    for own, wanted, labels in zip(student, teacher, target, strict=True):
        for index in labels[labels != 255].unique():
            of_class = labels == index
            first, second = (
                F.cosine_similarity(x[:, of_class], x[:, of_class].mean(1, keepdim=True), dim=0)
                for x in (own, wanted)
            )
            total = total + (first - second).square().sum()
    return total / target.numel()


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
        labels: Whether there is a label map (B, H, W), of which a tenth is ignored, as the last input.
        teacher: Whether there is a teacher's map.
        both: Whether the teacher's map gets a gradient too.
    """

    loss: Callable
    plain: Callable
    channels: int
    size: tuple[int, int]
    labels: bool = False
    teacher: bool = True
    both: bool = False


CASES = {
    'OHEM': Case(losses.OHEMCrossEntropy(), plain_ohem, CLASSES, FULL, labels=True, teacher=False),
    'MGD pixel': Case(
        losses.pixel_cross_entropy,
        plain_pixels,
        CLASSES,
        FULL,
        labels=True,
        teacher=False,
    ),
    'MGD image': Case(losses.image_semantic_loss, plain_image_semantic, CLASSES, FULL),
    'MGD region': Case(losses.region_content_loss, plain_region_content, WIDTH, EIGHTH),
    'LAD dual path': Case(
        losses.dual_path_consistency, plain_dual_path, CLASSES, EIGHTH, both=True
    ),
    'CWD': Case(losses.channel_wise_distillation, plain_channel_wise, CLASSES, EIGHTH),
    'TransKD HCL': Case(
        losses.hierarchical_context_loss, plain_hierarchical_context, WIDTH, EIGHTH
    ),
    'TransKD PEA': Case(
        lambda *maps: losses.patch_embedding_loss(*(x.flatten(2) for x in maps)),
        plain_difference,
        WIDTH,
        EIGHTH,
    ),
    'FitNets': Case(losses.hint_loss, plain_difference, WIDTH, EIGHTH),
    'AT': Case(losses.attention_transfer, plain_attention, WIDTH, EIGHTH),
    'IFVD': Case(losses.intra_class_variation, plain_variation, WIDTH, EIGHTH, labels=True),
    'DSD pixel-wise': Case(
        lambda *maps: losses.pixel_similarity(*map(halves, maps)),
        plain_attention_moves,
        WIDTH,
        EIGHTH,
    ),
    'DSD category-wise': Case(losses.category_similarity, plain_overlaps, CLASSES, EIGHTH),
    'KD': Case(losses.logit_distillation, plain_logits, CLASSES, EIGHTH),
    'SKD pair-wise': Case(losses.pairwise_similarity, plain_pairwise, WIDTH, EIGHTH),
    'CIRKD': Case(losses.cross_image_relation, plain_cross_image, WIDTH, SIXTEENTH),
    'DIST': Case(losses.correlation_distillation, plain_correlation, CLASSES, EIGHTH),
}


def make_inputs(case: Case, device: str) -> tuple[Tensor, ...]:
    """Return the student's seeded map and, where the case has them, the teacher's and labels."""
    torch.manual_seed(0)
    shape = (IMAGES, case.channels, *case.size)
    inputs = [torch.randn(shape, device=device, requires_grad=True)]
    if case.teacher:
        inputs.append(torch.randn(shape, device=device, requires_grad=case.both))
    if case.labels:
        labels = torch.randint(CLASSES, (IMAGES, *case.size), device=device)
        inputs.append(labels.masked_fill(torch.rand(labels.shape, device=device) < 0.1, 255))
    return tuple(inputs)


def run(form: Callable, inputs: tuple[Tensor, ...]) -> Tensor:
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
