"""What the command-line tools share."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import DictAction

from castkd.errors import CastkdError, ConfigError, one_line


def run_tool(action: Callable[[], Any]) -> int:
    """Run what a tool does and return the exit status.

    Args:
        action: The work, without arguments.

    Returns:
        0, or 2 after an error that castkd raised on purpose, which is printed as one line.
    """
    # Remarks of libraries to their own developers would stand between people and what a tool says.
    for text in ('.*faster.?coco.?eval', 'torch.meshgrid', r'.torch\.jit\.'):
        warnings.filterwarnings('ignore', message=text)
    try:
        action()
    except CastkdError as error:
        print(f'error: {one_line(error)}', file=sys.stderr)
        return 2
    return 0


def parse_cfg_options(items: Sequence[str] | None) -> dict[str, Any]:
    """Return config values by dotted key from ``key=value`` words, as mm tools read them.

    Raises:
        ConfigError: When a word is not ``key=value``.
    """
    for item in items or ():
        if '=' not in item:
            raise ConfigError(f'--cfg-options: {item!r} is not key=value')
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='*', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *(items or ())]).cfg_options
