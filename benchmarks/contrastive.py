"""Time and peak memory of the pixel-wise contrastive loss beside its plain dense form.

    python benchmarks/contrastive.py --out contrastive.json

Each measurement runs in a process of its own: forward and backward, the fastest of ``--repeat``
runs, and the peak of the resident memory above what the process held before the first run (on a
GPU: of the allocated memory). The dense form is left out where its matrices exceed the free memory.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import PeakMemory, make_parser, run_apart, seconds, write_results
from castkd.apis.command_line import run_tool
from castkd.losses import InstancePixelContrast

SIZES = {'703': (19, 37), '2812': (38, 74), '10952': (74, 148)}
IMAGES, WIDTH, QUERIES, CLASSES, MASK_SIZE = 4, 128, 100, 8, (148, 296)
# Whole float32 matrices that the dense form holds at its peak; tells where it cannot fit.
DENSE_MATRICES = 5


def dense_contrast(
    anchor: Tensor,
    positive: Tensor,
    mask_logits: Tensor,
    cls_logits: Tensor,
    num_negatives: int = 200,
    temperature: float = 0.2,
) -> Tensor:
    """Return the loss in its plainest form: whole (M, M) matrices, gradients by autograd."""
    height, width = anchor.shape[2:]
    z = F.normalize(anchor.permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    target = F.normalize(positive.detach().permute(0, 2, 3, 1).flatten(0, 2), dim=1)
    with torch.no_grad():
        masks = F.interpolate(mask_logits, (height, width), mode='bilinear', align_corners=False)
        over_queries = masks.flatten(2).transpose(1, 2).softmax(2)
        cue = torch.cat([over_queries, over_queries @ cls_logits.softmax(2)], dim=2).flatten(0, 1)
        cue = F.normalize(cue, dim=1)
        weights = (1 - cue @ cue.t()).clamp(min=0).fill_diagonal_(0)
        gumbel = -torch.log(-torch.log(torch.rand_like(weights) + 1e-6) + 1e-6)
        index = (weights.log() + gumbel).topk(num_negatives, dim=1).indices
    similarity = (z @ z.t()).gather(1, index)
    logits = torch.cat([(z * target).sum(1, keepdim=True), similarity], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.long, device=z.device))


def make_inputs(size: tuple[int, int], device: str) -> tuple[Tensor, ...]:
    """Return seeded anchor, positive, mask logits and class logits."""
    torch.manual_seed(0)
    anchor = torch.randn(IMAGES, WIDTH, *size, device=device, requires_grad=True)
    positive = torch.randn(IMAGES, WIDTH, *size, device=device)
    masks = 4 * torch.randn(IMAGES, QUERIES, *MASK_SIZE, device=device)
    return anchor, positive, masks, torch.randn(IMAGES, QUERIES, CLASSES + 1, device=device)


def measure(form: str, pixels: str, device: str, repeat: int, chunk_size: int) -> dict[str, float]:
    """Run one form at one size in this process; return its seconds and its peak in MiB."""
    chunked = InstancePixelContrast(chunk_size=chunk_size)
    loss = {'chunked': chunked, 'dense': dense_contrast}[form]
    inputs = make_inputs(SIZES[pixels], device)

    def run() -> None:
        inputs[0].grad = None
        loss(*inputs).backward()

    with PeakMemory(device) as peak:
        fastest = min(seconds(run, device) for _ in range(repeat))
    return {'seconds': fastest, 'peak_mib': peak.mib}


def dense_fits(pixels: str, device: str) -> bool:
    """Say whether the dense form's matrices fit in the memory that is free now."""
    free = psutil.virtual_memory().available if device == 'cpu' else torch.cuda.mem_get_info()[0]
    height, width = SIZES[pixels]
    return DENSE_MATRICES * 4 * (IMAGES * height * width) ** 2 < free


def measure_all(options: argparse.Namespace, console: Console) -> list[dict]:
    """Measure both forms at every size; a form that does not fit is None."""
    rows = []
    for pixels in options.pixels:
        row = {'pixels': f'{IMAGES} x {pixels}', 'dense': None}
        for form in ('chunked', 'dense'):
            if form == 'chunked' or dense_fits(pixels, options.device):
                console.print(f'{row["pixels"]} pixels, {form} form ...')
                settings = (options.device, options.repeat, options.chunk_size)
                row[form] = run_apart(measure, form, pixels, *settings)
        row['ratio'] = row['dense'] and row['chunked']['seconds'] / row['dense']['seconds']
        rows.append(row)
    return rows


def show(rows: list[dict], console: Console) -> None:
    """Print the measurements as a table."""
    table = Table('pixels', 'chunked s', 'dense s', 'ratio', 'chunked MiB', 'dense MiB')
    for row in rows:
        chunked, dense = row['chunked'], row['dense']
        table.add_row(
            row['pixels'],
            f'{chunked["seconds"]:.2f}',
            f'{dense["seconds"]:.2f}' if dense else 'does not fit',
            f'{row["ratio"]:.2f}' if dense else '-',
            f'{chunked["peak_mib"]:.0f}',
            f'{dense["peak_mib"]:.0f}' if dense else '-',
        )
    console.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = make_parser(__doc__, repeat=3)
    parser.add_argument('--pixels', nargs='+', choices=SIZES, default=list(SIZES))
    parser.add_argument('--chunk-size', type=int, default=1024, help='anchors per chunk')
    options = parser.parse_args(arguments)
    console = Console()
    rows = measure_all(options, console)
    show(rows, console)
    if options.out:
        write_results(options.out, {'rows': rows}, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
