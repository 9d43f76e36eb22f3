"""Merge pseudo-label files of several teachers: instances are matched by their masks, teachers weighted.

python tools/merge_labels.py first.json second.json --weights 0.31 0.28 --out merged.json --score-thr 0.3
python tools/merge_labels.py first.json second.json third.json --weights agreement --out merged.json --score-thr 0.3
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
    add = parser.add_argument
    add('files', type=Path, nargs='+', metavar='FILE', help='files of tools/pseudo_label.py')
    add(
        '--weights',
        nargs='+',
        required=True,
        metavar='AP',
        help="validation AP of each file's teacher, in the order of the files; or agreement: in every image a teacher "
        'weighs as much as the others agree with it',
    )
    add('--out', type=Path, required=True, metavar='FILE', help='file to write')
    add(
        '--iou-thr',
        type=float,
        default=0.5,
        help='masks of one class are one instance when their IoU is above it (%(default)s)',
    )
    add(
        '--score-thr',
        type=float,
        default=0.0,
        help='merged instances need a score above it (%(default)s)',
    )
    return parser.parse_args(arguments)


def _weights(given: list[str]) -> list[float] | str:
    """Return numbers where all are some, otherwise the word, which is checked later."""
    try:
        return [float(weight) for weight in given]
    except ValueError:
        return ' '.join(given)


def main() -> int:
    """Merge the files and say what was written."""
    options = vars(parse_arguments())
    options['weights'] = _weights(options['weights'])
    from castkd.apis.command_line import run_tool
    from castkd.apis.merge_labels import merge_labels

    def merge() -> None:
        summary = merge_labels(**options)
        print(
            f'{summary["out"]}: {summary["num_instances"]} instances of {summary["num_images"]} images'
        )

    return run_tool(merge)


if __name__ == '__main__':
    sys.exit(main())
