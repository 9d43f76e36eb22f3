"""Write the student as a plain mmdet or mmseg model: student.py and student.pth, proven to predict the same.

python tools/export_student.py CONFIG CHECKPOINT --out DIR
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
    parser.add_argument('checkpoint', type=Path, help='its checkpoint')
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='folder for the two files'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', metavar='KEY=VALUE', help='config values to change'
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Export and say where the files are."""
    options = parse_arguments()
    from castkd.apis.command_line import parse_cfg_options, run_tool
    from castkd.apis.export_student import export_student

    def export() -> None:
        files = export_student(
            options.config, options.checkpoint, options.out, parse_cfg_options(options.cfg_options)
        )
        print('loads strictly in a plain model and predicts bit for bit the same:')
        for file in files.values():
            print(f'  {file}')

    return run_tool(export)


if __name__ == '__main__':
    sys.exit(main())
