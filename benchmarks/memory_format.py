"""A training step with images and feature maps channels last in memory beside the usual format.

    python benchmarks/memory_format.py --out memory_format.json
    python benchmarks/memory_format.py configs/gid/coco/supervised.py --images 1 --repeat 3

The step is the first one of a stage config, from normalised images to gradients, with the same weights and the same
batch in both formats (``channels_last`` of the distiller). Each round times both, in turn first the one and first the
other; medians over rounds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import ROOT, make_parser, seconds, write_results
from benchmarks.distillation_step import build_distiller, read_config, run_step
from benchmarks.step_batch import make_batch
from castkd.apis.command_line import run_tool

STAGES = (
    'cast/nuclei128/adapt',
    'cast/nuclei128/distill',
    'gid/nuclei128/distill',
    'lad/camvid/student',
    'mgd/camvid/distill',
    'transkd/camvid/distill_ea',
)
FORMATS = {'usual': False, 'channels_last': True}


def measure(config: Config, rounds: int, device: str) -> dict[str, float]:
    """Return the median seconds of a step in either format, and as ``ratio`` the median of the second by the first."""
    forms = {}
    for name, channels_last in FORMATS.items():
        config.model.channels_last = channels_last
        distiller = build_distiller(config, online=False).to(device)
        forms[name] = distiller, make_batch(config, distiller, device)

    def step(name: str) -> float:
        distiller, batch = forms[name]
        torch.manual_seed(0)
        distiller.zero_grad()
        return seconds(lambda: run_step(distiller, *batch), device)

    for name in forms:
        step(name)
    rows = []
    for index in range(rounds):
        order = list(forms) if index % 2 else list(forms)[::-1]
        found = {name: step(name) for name in order}
        rows.append([found[name] for name in FORMATS])
    usual, last = zip(*rows, strict=True)
    return {
        'usual': median(usual),
        'channels_last': median(last),
        'ratio': median(second / first for first, second in rows),
    }


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = make_parser(__doc__, repeat=9)
    parser.add_argument(
        'configs',
        type=Path,
        nargs='*',
        default=[ROOT / f'configs/{stage}.py' for stage in STAGES],
        help='stage configs',
    )
    parser.add_argument(
        '--images', type=int, help='at most so many per view (default: as the config)'
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    table = Table('stage', 'ms', 'channels last, ms', 'ratio')
    stages = {}
    for file in options.configs:
        found = measure(read_config(file, options.images), options.repeat, options.device)
        name = '/'.join(file.with_suffix('').parts[-3:])
        stages[name] = found
        table.add_row(
            name,
            f'{1000 * found["usual"]:.0f}',
            f'{1000 * found["channels_last"]:.0f}',
            f'{found["ratio"]:.2f}',
        )
    Console().print(table)
    if options.out:
        options.configs = list(stages)
        write_results(options.out, {'stages': stages}, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
