"""Train a recipe with several seeds and say what they gave together."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from castkd.apis.command_line import parse_cfg_options
from castkd.apis.seed_runs import FAILED, FINISHED, SeedRun, run_seeds, thread_environment
from castkd.apis.study_progress import Board
from castkd.apis.study_results import StudyResults, collect
from castkd.apis.train import check_recipe
from castkd.checks import check_number
from castkd.engine.recipe import Recipe, load_recipe
from castkd.engine.recipe_runner import Action, RecipeRunner
from castkd.errors import CastkdError, ConfigError, DataError, TrainingError
from castkd.files import write_file

DEFAULT_SEEDS = (0, 1, 2)
RESULTS, TABLE, CURVES = 'study.json', 'study.md', 'curves.png'
_FOLDER = 'seed'
# Line breaks are never part of a JSON string, so brackets before and after them are none either.
_INNERMOST = re.compile(r'([\[{])\n\s*([^\[\]{}]*?)\n\s*([\]}])')


def study(
    config: str | Path,
    seeds: Sequence[int] | None = None,
    *,
    command: Sequence[str],
    jobs: int = 1,
    work_dir: str | Path | None = None,
    resume: bool = False,
    cfg_options: Sequence[str] = (),
    stage: Collection[str] | None = None,
    amp: bool = False,
    collect_only: bool = False,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Run a recipe once per seed, each in a process and a folder of its own, and put the results together.

    Seed K trains in ``<work_dir>/seedK`` and prints into ``train.log`` there. A seed that is finished is skipped. One
    that fails does not stop the others. In the end, also when some failed, the work directory gets ``study.md`` (the
    table), ``study.json`` and, where the recipe has ``report.curves``, ``curves.png``.

    Args:
        config: A recipe with a variable ``seed``.
        seeds: The seeds; None takes 0, 1 and 2 or, with ``collect_only``, those that are there.
        command: How a training is started: the words before the recipe, such as ``['python', 'tools/train.py']``.
        jobs: How many run at a time, at least 1. The CPU cores are divided among them unless ``OMP_NUM_THREADS`` is
            set.
        work_dir: Where to work; None takes ``<the recipe's>_study``.
        resume: Whether to go on with seeds that were broken off.
        cfg_options: Words ``key=value`` for every training, see :func:`castkd.engine.recipe.load_recipe`.
        stage: Names of the stages to run; None for all.
        amp: Whether to train in automatic mixed precision.
        collect_only: Whether nothing is trained: the results of what is there are put together.
        out: One more place for the JSON.

    Returns:
        The content of the JSON, see :meth:`castkd.apis.study_results.StudyResults.content`.

    Raises:
        ConfigError: When the recipe, an option or a seed is wrong, or a seed was broken off (without ``resume``) or
            made with another config. Nothing has been started then.
        DataError: When there is nothing to collect, or the work directory cannot be written.
        TrainingError: When a seed failed; the line names every such seed, its log and the reason.
    """
    check_number('study', 'jobs', jobs, low=1, integer=True)
    options = parse_cfg_options(cfg_options)
    if 'seed' in options:
        raise ConfigError('--cfg-options seed: a study sets the seed itself; use --seeds')
    recipe = load_recipe(config, work_dir=work_dir, cfg_options=options, amp=amp)
    if 'seed' not in recipe.variables:
        raise ConfigError(
            f'{str(config)!r} is no recipe with a variable "seed"; a study needs one that its stages refer to'
        )
    folder = (
        Path(work_dir) if work_dir else recipe.work_dir.with_name(f'{recipe.work_dir.name}_study')
    )
    if seeds is None:
        seeds = _found_seeds(folder) if collect_only else DEFAULT_SEEDS
    _check_seeds(seeds)
    recipe.select(stage)
    if collect_only:
        return _finish(recipe, folder, seeds, out)
    check_recipe(recipe)
    runs = []
    for seed in seeds:
        own = load_recipe(
            config, work_dir=_folder(folder, seed), cfg_options={**options, 'seed': seed}, amp=amp
        )
        words = [*command, str(config), '--work-dir', str(own.work_dir)]
        words += ['--resume'] * resume + ['--amp'] * amp
        words += [word for name in stage or () for word in ('--stage', name)]
        runs.append(SeedRun(seed, own, [*words, '--cfg-options', *cfg_options, f'seed={seed}']))
        _skip_finished(runs[-1], stage, resume)
    if len(runs) > 1 and runs[0].recipe.stages == runs[1].recipe.stages:
        raise ConfigError(
            f'{str(config)!r}: no stage refers to {{seed}}, all runs would be the same; see '
            'configs/_base_/recipes/cast.py for what a seed changes'
        )
    names = [item.name for item in recipe.select(stage)]
    with Board(runs, names, jobs) as board:
        run_seeds(runs, jobs, thread_environment(jobs), board.update)
    failed = [run for run in runs if run.state == FAILED]
    if failed:
        # What the others and the stages before gave is worth a table.
        with suppress(DataError):
            _finish(recipe, folder, seeds, out)
        raise _failure(failed, len(runs))
    return _finish(recipe, folder, seeds, out)


def _folder(work_dir: Path, seed: int) -> Path:
    return work_dir / f'{_FOLDER}{seed}'


def _found_seeds(work_dir: Path) -> list[int]:
    names = [path.name.removeprefix(_FOLDER) for path in work_dir.glob(f'{_FOLDER}*')]
    seeds = sorted(int(name) for name in names if name.isdecimal())
    if not seeds:
        raise DataError(
            f'{str(work_dir)!r} has no folder seed0, seed1, ...; nothing to collect, check --work-dir'
        )
    return seeds


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds:
        raise ConfigError('--seeds: give at least one seed')
    for seed in seeds:
        check_number('study', 'seed', seed, low=0, integer=True)
        if list(seeds).count(seed) > 1:
            raise ConfigError(f'--seeds: {seed} is given twice')


def _skip_finished(run: SeedRun, stage: Collection[str] | None, resume: bool) -> None:
    """Mark a seed that has nothing left to do; refuse one that its own process would refuse, before any starts.

    Raises:
        CastkdError: What :meth:`RecipeRunner.plan` raises, with the seed before it.
    """
    try:
        actions = RecipeRunner(run.recipe, {}).plan(stage, resume)
    except CastkdError as error:
        error.args = (f'seed {run.seed}: {error}',)
        raise
    if all(action is Action.SKIP for _, action in actions):
        run.state = FINISHED


def _finish(
    recipe: Recipe, work_dir: Path, seeds: Sequence[int], out: str | Path | None
) -> dict[str, Any]:
    """Show and write what the seeds have finished."""
    results = collect(recipe, {seed: _folder(work_dir, seed) for seed in seeds})
    if not any(run for row in results.rows for run in row.runs):
        raise DataError(
            f'{str(work_dir)!r} holds no finished row of the report of {str(recipe.path)!r}; '
            'check --work-dir, or train first'
        )
    Console().print(results.table())
    content = results.content()
    text = _short_json(content)
    for path in (work_dir / RESULTS, *([out] if out else [])):
        write_file(path, text)
    write_file(work_dir / TABLE, results.markdown() + _curves(results, work_dir))
    print(f'study: {work_dir / TABLE}, {work_dir / RESULTS}')
    return content


def _short_json(content: dict[str, Any]) -> str:
    """Return JSON in which a list or dict that holds no other is one line."""
    text = json.dumps(content, indent=1, default=str) + '\n'
    return _INNERMOST.sub(lambda found: found[1] + re.sub(r'\n\s*', ' ', found[2]) + found[3], text)


def _curves(results: StudyResults, work_dir: Path) -> str:
    """Draw the curves that the recipe asks for; return what the table says below itself."""
    content, note = results.curves()
    if content is not None:
        write_file(work_dir / CURVES, content)
        note = f'![curves: mean over the seeds, one standard deviation to either side]({CURVES})\n\n{note}'
    return f'\n{note.strip()}\n' if note else ''


def _failure(failed: Sequence[SeedRun], count: int) -> TrainingError:
    lines = [f'seed {run.seed} (log {str(run.log)!r}): {run.reason}' for run in failed]
    return TrainingError(
        f'{len(failed)} of {count} seeds failed: {"; ".join(lines)}; mend it and go on with --resume'
    )
