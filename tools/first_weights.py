"""Write the weights that a config's network starts from as a checkpoint, to test it or to label with it untrained.

python tools/first_weights.py configs/cast/cityscapes/adapt.py --out work_dirs/zero_shot.pth
python tools/test.py configs/cast/cityscapes/adapt.py work_dirs/zero_shot.pth
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
        '--out', type=Path, required=True, metavar='FILE', help='checkpoint to write'
    )
    parser.add_argument(
        '--cfg-options', nargs='+', metavar='KEY=VALUE', help='config values to change'
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Write the checkpoint and say where it is."""
    options = parse_arguments()
    from castkd.apis.command_line import parse_cfg_options, run_tool
    from castkd.apis.first_weights import save_first_weights

    def save() -> None:
        print(
            save_first_weights(options.config, options.out, parse_cfg_options(options.cfg_options))
        )

    return run_tool(save)


if __name__ == '__main__':
    sys.exit(main())
