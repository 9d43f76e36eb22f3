"""How far the trainings of a study are, and how long the rest will take."""

from __future__ import annotations

import heapq
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from castkd.apis.seed_runs import FINISHED, RUNNING, WAITING, SeedRun
from castkd.engine.manifest import DONE, Manifest, StageRecord
from castkd.engine.recipe import Recipe
from castkd.visualization.report import duration_text

_TAIL_BYTES = 32_768
_REFRESH_SECONDS = 2.0


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is.

    Attributes:
        name: Name of the stage.
        done: Whether it is finished.
        iterations: Training iterations in all; 0 for a stage that does not train, or counts epochs.
        iteration: The last one that was logged.
        seconds: What the whole stage takes: its time when finished, else by the time of its last iterations; None when
            that is not known.
    """

    name: str
    done: bool = False
    iterations: int = 0
    iteration: int = 0
    seconds: float | None = None

    @property
    def left(self) -> float:
        """Share of the stage that is still to do, in [0, 1]."""
        if self.done:
            return 0.0
        return 1 - min(self.iteration / self.iterations, 1.0) if self.iterations else 1.0


def read_progress(recipe: Recipe, names: Collection[str]) -> list[StageProgress]:
    """Return how far the named stages of a recipe are, from its manifest and logs."""
    records = Manifest.load(recipe.work_dir).stages
    found = []
    for stage in recipe.stages:
        if stage.name not in names:
            continue
        total = (stage.config.get('train_cfg') or {}).get('max_iters') or 0 if stage.config else 0
        record = records.get(stage.name, StageRecord(stage.kind))
        if record.state == DONE:
            found.append(StageProgress(stage.name, True, total, total, record.seconds))
            continue
        iteration, pace = _last_iteration(recipe.folder(stage.name))
        seconds = pace * total if pace is not None and total else None
        found.append(StageProgress(stage.name, False, total, iteration, seconds))
    return found


def seconds_left(seeds: Mapping[int, Sequence[StageProgress]]) -> dict[int, float | None]:
    """Estimate how long each seed's training will take from here.

    A stage takes as long as its own log says, else as the same stage of other seeds, else as many iterations as it has
    at the mean pace of all stages; a stage of which nothing is known counts nothing.

    Args:
        seeds: Stages by seed.

    Returns:
        Seconds by seed; None for all while no stage has logged anything.
    """
    stages = [stage for found in seeds.values() for stage in found]
    known = [stage for stage in stages if stage.seconds is not None]
    if not known:
        return dict.fromkeys(seeds)
    by_name: dict[str, list[float]] = {}
    for stage in known:
        by_name.setdefault(stage.name, []).append(stage.seconds)
    typical = {name: sum(values) / len(values) for name, values in by_name.items()}
    trained = [stage for stage in known if stage.iterations]
    steps = sum(stage.iterations for stage in trained)
    pace = sum(stage.seconds for stage in trained) / steps if steps else 0.0
    return {
        seed: sum(
            (stage.seconds or typical.get(stage.name, stage.iterations * pace)) * stage.left
            for stage in found
        )
        for seed, found in seeds.items()
    }


def study_seconds_left(running: Sequence[float], waiting: Sequence[float], jobs: int) -> float:
    """Return how long all trainings take when the waiting ones start, in order, as soon as one of ``jobs`` ends.

    Args:
        running: Seconds left of those that run.
        waiting: Seconds of those that wait.
        jobs: How many run at a time, at least 1.
    """
    ends = [*running, *[0.0] * (jobs - len(running))]
    heapq.heapify(ends)
    for seconds in waiting:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


class Board:
    """A live table of the trainings of a study; where there is no terminal, a line for every change.

    Args:
        runs: The trainings.
        names: Stages that they run.
        jobs: How many run at a time.
        console: Where it appears; None for the standard error stream.
    """

    def __init__(
        self,
        runs: Sequence[SeedRun],
        names: Collection[str],
        jobs: int,
        console: Console | None = None,
    ) -> None:
        self.runs, self.names, self.jobs = runs, names, jobs
        self.console = console or Console(stderr=True)
        self._live = Live(console=self.console, auto_refresh=False)
        self._next = 0.0
        self._said: dict[int, str] = {}

    def __enter__(self) -> Board:
        """Start to show it."""
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show it a last time."""
        self._next = 0.0
        self.update()
        if self.console.is_terminal:
            self._live.stop()

    def update(self) -> None:
        """Bring it up to date, every other second at most."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REFRESH_SECONDS
        progress = {run.seed: read_progress(run.recipe, self.names) for run in self.runs}
        if self.console.is_terminal:
            self._live.update(self.table(progress), refresh=True)
            return
        for run in self.runs:
            line = f'seed {run.seed}: {run.state}{_place(progress[run.seed], run)}'
            if self._said.get(run.seed) != line:
                self._said[run.seed] = line
                self.console.print(line, highlight=False, soft_wrap=True)

    def table(self, progress: Mapping[int, Sequence[StageProgress]]) -> Table:
        """Return the table: per seed its state, stage, iteration and the time left, below it the time left in all."""
        left = seconds_left(progress)
        running, waiting = (
            [left[run.seed] or 0.0 for run in self.runs if run.state == state]
            for state in (RUNNING, WAITING)
        )
        caption = None
        if running and None not in left.values():
            seconds = study_seconds_left(running, waiting, self.jobs)
            caption = f'about {duration_text(seconds)} left'
        table = Table(
            'seed', 'state', 'stage', 'iteration', 'left', box=box.SIMPLE, caption=caption
        )
        for run in self.runs:
            stages = progress[run.seed]
            current = _current(stages)
            counted = run.state == RUNNING and current is not None and current.iterations
            seconds = left[run.seed]
            table.add_row(
                str(run.seed),
                run.state,
                _place(stages, run).removeprefix(', '),
                f'{current.iteration} of {current.iterations}' if counted else '',
                '' if seconds is None or run.state == FINISHED else duration_text(seconds),
            )
        return table


def _current(stages: Sequence[StageProgress]) -> StageProgress | None:
    return next((stage for stage in stages if not stage.done), None)


def _place(stages: Sequence[StageProgress], run: SeedRun) -> str:
    """Return which stage a training is at, in words; nothing for one that waits or is finished."""
    current = _current(stages)
    if run.state in (FINISHED, WAITING):
        return ''
    if current is None:
        return ', report'
    return f', {current.name} ({stages.index(current) + 1} of {len(stages)})'


def _last_iteration(folder: Path) -> tuple[int, float | None]:
    """Return the last logged training iteration of a stage and the seconds that one takes, (0, None) for none."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    for path in reversed(logs):
        with open(path, 'rb') as file:
            file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
            lines = file.read().decode(errors='replace').splitlines()
        for line in reversed(lines):
            try:
                record = json.loads(line)
                return int(record['iter']), float(record['time'])
            except (ValueError, KeyError, TypeError):
                # A validation, half a line that is just being written, or the cut first one.
                continue
    return 0, None
