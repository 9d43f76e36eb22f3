"""Evaluate the student of a distiller checkpoint, or an exported or plain model.

python tools/test.py CONFIG CHECKPOINT
python tools/test.py CONFIG CHECKPOINT --out results.json --show-dir pictures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config of a distiller or of a plain model')
    parser.add_argument(
        'checkpoint', type=Path, help="a distiller's checkpoint, a plain or an exported one"
    )
    parser.add_argument('--work-dir', type=Path, help='folder for logs (work_dirs/NAME)')
    parser.add_argument('--out', type=Path, help='JSON file for the numbers')
    parser.add_argument(
        '--show-dir', type=Path, help='folder for images with predictions drawn on them'
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='several GPUs',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', metavar='KEY=VALUE', help='config values to change'
    )
    # torchrun of older torch versions passes it.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> int:
    """Evaluate and print a table."""
    options = parse_arguments()
    from castkd.apis.command_line import parse_cfg_options, run_tool
    from castkd.apis.test import test

    return run_tool(
        lambda: test(
            options.config,
            options.checkpoint,
            work_dir=options.work_dir,
            out=options.out,
            show_dir=options.show_dir,
            launcher=options.launcher,
            cfg_options=parse_cfg_options(options.cfg_options),
        )
    )


if __name__ == '__main__':
    sys.exit(main())
