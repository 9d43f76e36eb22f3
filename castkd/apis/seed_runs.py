"""Trainings of one recipe with different seeds, each in a process of its own, some at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from castkd.engine.recipe import Recipe
from castkd.errors import DataError

WAITING, RUNNING, FINISHED, FAILED = 'waiting', 'running', 'finished', 'failed'
INTERRUPTED = 'interrupted'
LOG = 'train.log'
_POLL_SECONDS = 0.5
_PATIENCE_SECONDS = 10.0


@dataclass
class SeedRun:
    """The training of one seed.

    Attributes:
        seed: The seed.
        recipe: The recipe with this seed and its work directory filled in.
        command: The process to start.
        state: ``waiting``, ``running``, ``finished``, ``failed`` or ``interrupted``.
        reason: Why it failed, one line.
    """

    seed: int
    recipe: Recipe
    command: Sequence[str]
    state: str = WAITING
    reason: str = ''
    _process: subprocess.Popen | None = field(default=None, repr=False)
    _log_start: int = field(default=0, repr=False)

    @property
    def log(self) -> Path:
        """File that everything the process prints is appended to."""
        return self.recipe.work_dir / LOG

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the process, unless another one still works in the same folder: then it has failed.

        The log is locked as long as a process holds it, so a study that was killed while its trainings lived on cannot
        be started a second time beside them.

        Raises:
            DataError: When the log cannot be written.
        """
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log, 'ab') as log:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._log_start = log.tell()
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(environment),
                    # Not the terminal's group: Ctrl-C reaches the study, which ends them all.
                    start_new_session=True,
                )
        except BlockingIOError:
            self.state = FAILED
            self.reason = 'another process trains in this folder; wait for it or end it'
        except OSError as error:
            raise DataError(
                f'seed {self.seed}: cannot start with log {str(self.log)!r} ({error.strerror or error}); '
                'free space there or use another --work-dir'
            ) from error
        else:
            self.state = RUNNING

    def poll(self) -> None:
        """Look whether the process has ended."""
        if self.state != RUNNING or (status := self._process.poll()) is None:
            return
        self.state = FINISHED if status == 0 else FAILED
        if status:
            ended = f'exit status {status}' if status > 0 else f'killed by {_signal_name(-status)}'
            last = self._last_words()
            self.reason = f'{ended}: {last}' if last else ended

    def signal(self, number: int) -> None:
        """Send a signal to the process and those that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self, seconds: float) -> None:
        """Wait at most so long for the process to end, then for its folder to be free; what does not end is killed."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()
        # What it started, such as readers of images, may outlive it.
        self.signal(signal.SIGKILL)
        self.state = INTERRUPTED
        with suppress(OSError), open(self.log, 'a', encoding='utf-8') as log:
            log.write('ended with the study; go on with --resume\n')
        _wait_until_unlocked(self.log, _PATIENCE_SECONDS)

    def _last_words(self) -> str:
        """Return the error line of the process, or the last line it printed."""
        with open(self.log, 'rb') as log:
            log.seek(self._log_start)
            lines = [line.strip() for line in log.read().decode(errors='replace').splitlines()]
        errors = [line for line in lines if line.startswith('error: ')]
        return next(iter([*errors[-1:], *[line for line in lines if line][-1:]]), '')


def run_seeds(
    runs: Sequence[SeedRun], jobs: int, environment: Mapping[str, str], watch: Callable[[], None]
) -> None:
    """Start the waiting trainings in order, at most ``jobs`` at a time, and wait for all of them.

    One that fails does not stop the others. Whatever ends this function, Ctrl-C included, ends them: they get SIGTERM,
    and SIGKILL when they take more than ten seconds.

    Args:
        runs: The trainings; only waiting ones are started.
        jobs: How many run at a time, at least 1.
        environment: Environment of the processes.
        watch: Called about twice a second and once at the end.

    Raises:
        DataError: When a log cannot be written.
    """
    waiting = deque(run for run in runs if run.state == WAITING)
    try:
        while True:
            for run in runs:
                run.poll()
            while waiting and sum(run.state == RUNNING for run in runs) < jobs:
                waiting.popleft().start(environment)
            watch()
            if not any(run.state == RUNNING for run in runs):
                return
            time.sleep(_POLL_SECONDS)
    finally:
        _stop([run for run in runs if run.state == RUNNING])


def thread_environment(jobs: int) -> dict[str, str]:
    """Return this process's environment with the CPU cores divided among ``jobs`` trainings.

    A number of threads that is set already (``OMP_NUM_THREADS``) stays.
    """
    # Not every system can tell which cores a process may use.
    allowed = getattr(os, 'sched_getaffinity', None)
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    environment = {'PYTHONUNBUFFERED': '1', **os.environ}
    if jobs > 1:
        environment.setdefault('OMP_NUM_THREADS', str(max(cores // jobs, 1)))
    return environment


def _stop(runs: Sequence[SeedRun]) -> None:
    for run in runs:
        run.signal(signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        for run in runs:
            run.wait(max(deadline - time.monotonic(), 0.0))
    except KeyboardInterrupt:
        for run in runs:
            run.signal(signal.SIGKILL)
        raise


def _wait_until_unlocked(path: Path, seconds: float) -> None:
    """Wait at most so long until no process holds the lock of a file: a signal is sent, not yet received."""
    deadline = time.monotonic() + seconds
    with suppress(OSError), open(path, 'ab') as file:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(_POLL_SECONDS / 10)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f'signal {number}'
