"""What the benchmarks share: processes of their own, clocks, peak memory, made-up images, results."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger

from castkd.errors import CastkdError
from castkd.files import write_file

ROOT = Path(__file__).parents[1]
_PROCESS = Path('/proc/self')
# Written to clear_refs, it makes the process's peak of resident memory begin anew (man 5 proc).
_FORGET_PEAK = '5'


def make_parser(description: str, repeat: int, device: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have.

    Args:
        description: The script's docstring; its first line is shown.
        repeat: Default of ``--repeat``.
        device: Whether there is a choice of device; a GPU is taken where there is one.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        '--repeat', type=int, default=repeat, help=f'runs per measurement (default: {repeat})'
    )
    parser.add_argument('--out', type=Path, help='JSON file for the measurements')
    if device:
        found = 'cuda' if torch.cuda.is_available() else 'cpu'
        parser.add_argument('--device', choices=('cpu', 'cuda'), default=found)
    return parser


def run_apart(function: Callable, *arguments: Any) -> Any:
    """Return ``function(*arguments)`` from a fresh process, so that peaks and caches do not mix."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *arguments).result()


def quiet_logs() -> None:
    """Keep mmengine from listing how every parameter was initialised."""
    MMLogger.get_current_instance().setLevel(logging.WARNING)


def seconds(action: Callable[[], Any], device: str = 'cpu') -> float:
    """Return the wall time of ``action``, until the device has finished."""
    _synchronize(device)
    start = time.perf_counter()
    action()
    _synchronize(device)
    return time.perf_counter() - start


def _synchronize(device: str) -> None:
    if device == 'cuda':
        torch.cuda.synchronize()


class PeakMemory:
    """Measures the peak of memory inside a ``with`` block, above what is held when it begins.

    On a GPU that is allocated memory, otherwise the resident memory of this process.

    Attributes:
        mib: The peak in MiB, once the block has ended.

    Raises:
        CastkdError: On the CPU of a system that does not tell (only Linux does).
    """

    def __init__(self, device: str) -> None:
        if device == 'cpu' and not (_PROCESS / 'clear_refs').exists():
            raise CastkdError(f'{platform.system()} tells no peak of memory; use Linux or a GPU')
        self.device = device
        self.mib = 0.0

    def __enter__(self) -> PeakMemory:
        """Note what is held now, and forget earlier peaks."""
        if self.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            (_PROCESS / 'clear_refs').write_text(_FORGET_PEAK)
            self._before = _status('VmRSS')
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Read the peak."""
        cuda = self.device == 'cuda'
        peak = torch.cuda.max_memory_allocated() if cuda else _status('VmHWM')
        self.mib = (peak - self._before) / 2**20


def _status(name: str) -> int:
    """Return an entry of this process's status, in bytes."""
    return 1024 * int(re.search(rf'{name}:\s+(\d+) kB', (_PROCESS / 'status').read_text())[1])


def discs(rng: np.random.Generator, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw round objects.

    Args:
        rng: Source of places and radii.
        size: Side of the image, in pixels.
        count: Number of objects.

    Returns:
        Masks (count, size, size), uint8, radii between 1/20 and 1/8 of the side, all wholly inside; and their boxes
        (count, 4), float32, as x1, y1, x2, y2.
    """
    radius = rng.integers(size // 20 + 1, size // 8 + 1, count)
    left, top = (rng.integers(0, size - 2 * radius) for _ in range(2))
    grid = np.arange(size) + 0.5
    dy = grid[None, :, None] - (top + radius)[:, None, None]
    dx = grid[None, None, :] - (left + radius)[:, None, None]
    masks = dx**2 + dy**2 <= (radius**2)[:, None, None]
    boxes = np.stack([left, top, left + 2 * radius, top + 2 * radius], axis=1)
    return masks.astype(np.uint8), boxes.astype(np.float32)


def write_results(path: Path, results: dict[str, Any], options: argparse.Namespace) -> None:
    """Write results with the options and the machine that gave them, whole or not at all."""
    device = getattr(options, 'device', 'cpu')
    machine = {
        'processor': torch.cuda.get_device_name() if device == 'cuda' else platform.machine(),
        'cores': os.cpu_count(),
        'threads': torch.get_num_threads(),
        'python': platform.python_version(),
        'torch': torch.__version__,
    }
    content = {'options': vars(options), 'machine': machine, **results}
    write_file(path, json.dumps(content, indent=2, default=str) + '\n')
