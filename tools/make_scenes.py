"""Generate street scenes in the layout of Cityscapes, with COCO annotation files.

    python tools/make_scenes.py
    python tools/make_scenes.py --out data/scenes_large --train 2000 --val 200 --size 256 512 --seed 1

Scenes that are there with the same parameters are kept; a folder with anything else is refused.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--out', type=Path, default=Path('data/scenes'), help='folder (data/scenes)'
    )
    parser.add_argument('--train', type=int, default=600, help='number of training images (600)')
    parser.add_argument('--val', type=int, default=100, help='number of validation images (100)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(128, 256),
        metavar=('HEIGHT', 'WIDTH'),
        help='(128 256)',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of all images (0)')
    parser.add_argument(
        '--empty', type=float, default=0.0, help='share of images without any object (0)'
    )
    return parser.parse_args(arguments)


def make(options: argparse.Namespace) -> None:
    """Make the scenes and say where they are."""
    from castkd.datasets.scenes import generate_scenes

    made = generate_scenes(
        options.out,
        options.train,
        options.val,
        tuple(options.size),
        options.seed,
        options.empty,
    )
    print(
        f'{"wrote" if made else "kept"} {options.train} training and {options.val} validation scenes in {options.out}'
    )


def main() -> int:
    """Run the tool and return its exit status."""
    options = parse_arguments()
    from castkd.apis.command_line import run_tool

    return run_tool(lambda: make(options))


if __name__ == '__main__':
    sys.exit(main())
