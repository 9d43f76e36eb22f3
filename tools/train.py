"""Run the stages of a recipe, or train a plain config.

python tools/train.py configs/cast/RECIPE.py --dry-run [--gpu A100]
python tools/train.py configs/cast/RECIPE.py
python tools/train.py configs/cast/RECIPE.py --resume
python tools/train.py configs/cast/RECIPE.py --stage adapt --cfg-options seed=1 adapt.train_cfg.max_iters=500
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='recipe or training config')
    parser.add_argument(
        '--stage',
        action='append',
        metavar='NAME',
        help='run this stage of the recipe alone; may be given several times',
    )
    parser.add_argument('--resume', action='store_true', help='go on with what was broken off')
    parser.add_argument(
        '--dry-run',
        action='store_true',
        help='say what would be done (stages, images, networks, passes, time) and write nothing',
    )
    parser.add_argument(
        '--gpu',
        metavar='NAME',
        help='with --dry-run: estimate operations, memory and hours for this GPU (A100, RTX4090, ...) without training',
    )
    parser.add_argument(
        '--work-dir', type=Path, help='where everything goes (default: work_dirs/CONFIG)'
    )
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision: float16 on a GPU, bfloat16 on a CPU'
    )
    parser.add_argument(
        '--launcher',
        choices=('none', 'pytorch', 'slurm', 'mpi'),
        default='none',
        help='how the processes of a distributed run are started',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='new values: of a variable of the recipe, of one stage (STAGE.key=value), or of all train stages',
    )
    # Launchers of older torch versions hand over the rank this way.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train; return 0, 2 after an error that is the user's, 130 after an interruption."""
    options = parse_arguments(arguments)
    if options.launcher != 'none':
        os.environ.setdefault('LOCAL_RANK', str(options.local_rank))
    from castkd.apis.command_line import parse_cfg_options, run_tool
    from castkd.apis.train import train

    try:
        return run_tool(
            lambda: train(
                options.config,
                stage=options.stage,
                resume=options.resume,
                dry_run=options.dry_run,
                gpu=options.gpu,
                work_dir=options.work_dir,
                cfg_options=parse_cfg_options(options.cfg_options),
                launcher=options.launcher,
                amp=options.amp,
            )
        )
    except KeyboardInterrupt:
        print('interrupted; go on with --resume', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
