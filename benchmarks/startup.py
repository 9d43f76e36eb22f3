"""How long the training command takes to answer: its help, and the refusal of a misspelt key.

    python benchmarks/startup.py --out startup.json

Wall time of whole processes, median over ``--repeat`` runs; the first, which fills the disk cache, is
not counted. An interpreter that does nothing is timed beside them: no command can be faster.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import ROOT, make_parser, seconds, write_results
from castkd.apis.command_line import run_tool
from castkd.errors import CastkdError

TRAIN = (str(ROOT / 'tools/train.py'),)
RECIPE = str(ROOT / 'configs/cast/cast_nuclei128_2pct.py')
WRONG_KEY = 'wieght'
COMMANDS = {
    'interpreter alone': ('-c', 'pass'),
    'train.py --help': (*TRAIN, '--help'),
    'misspelt key refused': (
        *TRAIN,
        RECIPE,
        '--cfg-options',
        f'distill.model.objectives.cast.{WRONG_KEY}=0.1',
    ),
}
# Command -> exit status and text that show that it did what is timed.
ANSWERS = {
    'interpreter alone': (0, ''),
    'train.py --help': (0, '--dry-run'),
    'misspelt key refused': (2, WRONG_KEY),
}


def run(name: str) -> None:
    """Run one of ``COMMANDS`` in an empty folder.

    Raises:
        CastkdError: When it does not answer as it should.
    """
    status, text = ANSWERS[name]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *COMMANDS[name]]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != status or text not in done.stdout + done.stderr:
        last = ((done.stderr or done.stdout).strip().splitlines() or [''])[-1]
        raise CastkdError(
            f'{name}: ended with status {done.returncode} instead of {status}; its last line: {last}'
        )


def measure(repeat: int) -> dict[str, float]:
    """Return the median seconds per command; the commands run in turn."""
    found = {name: [] for name in COMMANDS}
    for _ in range(repeat + 1):
        for name, times in found.items():
            times.append(seconds(partial(run, name)))
    return {name: median(times[1:]) for name, times in found.items()}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and measure."""
    options = make_parser(__doc__, repeat=5, device=False).parse_args(arguments)
    times = measure(options.repeat)
    table = Table('command', 's')
    for name, value in times.items():
        table.add_row(name, f'{value:.2f}')
    Console().print(table)
    if options.out:
        write_results(options.out, {'seconds': times}, options)


if __name__ == '__main__':
    sys.exit(run_tool(main))
