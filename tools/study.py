"""Train a recipe with several seeds and show mean, deviation and differences of its results.

python tools/study.py configs/cast/RECIPE.py --seeds 0 1 2
python tools/study.py configs/cast/RECIPE.py --seeds 0 1 2 --jobs 2 --resume --out docs/results/RECIPE.json
python tools/study.py configs/cast/RECIPE.py --collect-only
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', type=Path, help='recipe with a variable "seed"')
    add(
        '--seeds',
        type=int,
        nargs='+',
        metavar='SEED',
        help='default: 0 1 2; with --collect-only those that are there',
    )
    add('--jobs', type=int, default=1, help='trainings at a time (%(default)s)')
    add(
        '--work-dir',
        type=Path,
        help='where everything goes, seed0, seed1, ... in it (default: work_dirs/CONFIG_study)',
    )
    add('--resume', action='store_true', help='go on with seeds that were broken off')
    add(
        '--stage',
        nargs='+',
        action='extend',
        metavar='NAME',
        help='run these stages of the recipe alone',
    )
    add('--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU')
    add('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='as of tools/train.py')
    add(
        '--collect-only',
        action='store_true',
        help='train nothing, show the results of what is there',
    )
    add('--out', type=Path, metavar='FILE', help='one more place for the results as JSON')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the study; return 0, 2 after an error or a failed seed, 130 after an interruption."""
    options = vars(parse_arguments(arguments))
    from castkd.apis.command_line import run_tool
    from castkd.apis.study import study

    command = [sys.executable, str(Path(__file__).with_name('train.py'))]
    # A study that is ended from outside ends its trainings as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run_tool(lambda: study(**options, command=command))
    except KeyboardInterrupt:
        print('interrupted; go on with --resume', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
