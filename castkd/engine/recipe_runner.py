"""Running a recipe: what is left to do, what is refused, and the manifest that remembers it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process

from castkd.checkpoints import sha256
from castkd.engine.manifest import (
    DONE,
    MANIFEST,
    PENDING,
    RUNNING,
    Manifest,
    StageRecord,
    changed_keys,
    config_text,
    input_files,
    text_sha256,
    versions,
)
from castkd.engine.recipe import TRAIN, Recipe, Stage
from castkd.engine.references import substitute
from castkd.engine.stage import StageJob, StageResult, resume_point, start_processes
from castkd.errors import ConfigError, DataError, in_one_line
from castkd.files import write_file

_SHOWN_CHANGES = 4
_POLL_SECONDS = 2

StageRunner = Callable[[StageJob], StageResult]


class Action(Enum):
    """What to do with a stage."""

    SKIP = 'finished'
    RUN = 'to do'
    RESUME = 'to resume'


@dataclass
class RecipeRunner:
    """Runs the stages of a recipe in this process.

    Attributes:
        recipe: The recipe.
        runners: Function per kind of stage.
        launcher: mmengine's launcher.
        report: Gets one line on each stage that is skipped, started or finished.
    """

    recipe: Recipe
    runners: Mapping[str, StageRunner]
    launcher: str = 'none'
    report: Callable[[str], None] = print

    def __post_init__(self) -> None:
        """Read the manifest."""
        self.manifest = Manifest.load(self.recipe.work_dir)

    def plan(
        self, only: str | Collection[str] | None = None, resume: bool = False
    ) -> list[tuple[Stage, Action]]:
        """Return what to do, in order. Nothing is written.

        Args:
            only: Name or names of the stages to run; None for all.
            resume: Whether broken stages are taken up again.

        Raises:
            ConfigError: When ``only`` is unknown, or a stage was made with another config or from other inputs.
            DataError: When an output of a finished stage is missing or altered.
        """
        selected = self.recipe.select(only)
        wanted = {stage.name for stage in selected}
        needed = self._upstream(selected) - wanted
        actions: list[tuple[Stage, Action]] = []
        remade: set[str] = set()
        for stage in self.recipe.stages:
            if stage.name not in wanted | needed:
                continue
            action = self._action(stage, remade, resume)
            if action is not Action.SKIP:
                remade.add(stage.name)
                if stage.name in needed:
                    raise ConfigError(
                        f'--stage {_words(only)}: its input stage {stage.name!r} is not finished; '
                        f'run --stage {stage.name} first, or all stages'
                    )
            if stage.name in wanted:
                actions.append((stage, action))
        return actions

    def run(self, only: str | Collection[str] | None = None, resume: bool = False) -> Manifest:
        """Run what :meth:`plan` says.

        Returns:
            The manifest after it.

        Raises:
            CastkdError: What :meth:`plan` raises, or why a stage stopped.
        """
        first = next((stage for stage in self.recipe.stages if stage.kind == TRAIN), None)
        start_processes(self.launcher, first.config if first else {})
        actions = self.plan(only, resume)
        barrier()
        if is_main_process() and any(action is not Action.SKIP for _, action in actions):
            self.manifest.recipe = str(self.recipe.path)
            self.manifest.variables = self.recipe.variables
            for stage in self.recipe.stages:
                self.manifest.stages.setdefault(stage.name, StageRecord(stage.kind))
            self.manifest.save()
        for stage, action in actions:
            if action is Action.SKIP:
                self._say(f'{stage.name}: finished before, skipped')
            else:
                self._run_stage(stage, action)
        return self.manifest

    # ---- what is left to do -----------------------------------------------------------------------------------

    def _upstream(self, stages: list[Stage]) -> set[str]:
        by_name = {stage.name: stage for stage in self.recipe.stages}
        found: set[str] = set()
        todo = list(stages)
        while todo:
            for name, _ in todo.pop().uses:
                if name not in found:
                    found.add(name)
                    todo.append(by_name[name])
        return found

    def _action(self, stage: Stage, remade: set[str], resume: bool) -> Action:
        record = self.manifest.stages.get(stage.name, StageRecord(stage.kind))
        folder = self.recipe.folder(stage.name)
        if record.state == PENDING or not folder.is_dir():
            if self._has_work(stage):
                raise ConfigError(
                    f'{str(folder)!r} holds work that {str(self.manifest.work_dir)!r} has no record of; '
                    'use another --work-dir or remove it'
                )
            return Action.RUN
        if record.state == RUNNING and not self._has_work(stage):
            return Action.RUN
        self._check_same_config(stage, record)
        self._check_same_inputs(stage, record, remade)
        if record.state == RUNNING:
            if not resume:
                raise ConfigError(
                    f'stage {stage.name!r} was broken off in {str(folder)!r}; '
                    'go on with --resume, or use another --work-dir'
                )
            return Action.RESUME
        damage = self.manifest.damaged_output(stage.name)
        if damage:
            raise DataError(
                f'stage {stage.name!r} is finished but {damage}; '
                f'put the file back, or remove the folder {str(folder)!r} to make the stage again'
            )
        return Action.SKIP

    def _has_work(self, stage: Stage) -> bool:
        folder = self.recipe.folder(stage.name)
        if stage.kind == TRAIN:
            return resume_point(folder) is not None
        return folder.is_dir() and any(path.name != 'config.py' for path in folder.iterdir())

    def _text_file(self, stage: Stage) -> Path:
        return self.recipe.work_dir / f'{stage.name}.config.json'

    def _check_same_config(self, stage: Stage, record: StageRecord) -> None:
        text = _stage_text(stage)
        if text_sha256(text) == record.config_sha256:
            return
        file = self._text_file(stage)
        changes = ['its config text is lost, so the keys cannot be named']
        if file.is_file():
            changes = changed_keys(file.read_text(encoding='utf-8'), text)
        more = f' and {len(changes) - _SHOWN_CHANGES} more' if len(changes) > _SHOWN_CHANGES else ''
        state = 'finished' if record.state == DONE else 'broken off'
        raise ConfigError(
            f'stage {stage.name!r} was {state} with another config: '
            f'{"; ".join(changes[:_SHOWN_CHANGES])}{more}. Undo the change, use another --work-dir, or remove the '
            f'folder {str(self.recipe.folder(stage.name))!r} to make the stage again'
        )

    def _check_same_inputs(self, stage: Stage, record: StageRecord, remade: set[str]) -> None:
        for name, output in stage.uses:
            if name in remade:
                reason = f'its input stage {name!r} is not finished'
            elif self._upstream_sha256(name, output) != record.inputs.get(f'{name}.{output}'):
                reason = f'{name}.{output} was made again since'
            else:
                continue
            raise self._stale(stage, reason)
        for key, path in input_files(stage.config).items():
            if key in record.inputs and sha256(path) != record.inputs[key]:
                raise self._stale(stage, f'its input file {key!r} changed since')

    def _stale(self, stage: Stage, reason: str) -> ConfigError:
        return ConfigError(
            f'stage {stage.name!r} is stale: {reason}; '
            f'remove the folder {str(self.recipe.folder(stage.name))!r} to make it again'
        )

    def _upstream_sha256(self, stage: str, output: str) -> str | None:
        return self.manifest.stages[stage].outputs.get(output, {}).get('sha256')

    # ---- doing it -----------------------------------------------------------------------------------------------

    def _run_stage(self, stage: Stage, action: Action) -> None:
        self._say(f'{stage.name}: {"resumed" if action is Action.RESUME else "started"}')
        job = self._job(stage, action)
        if is_main_process():
            self._note_start(stage, action)
        # A stage that is made again is recorded as finished until then; _wait_for reads the record.
        barrier()
        started = time.perf_counter()
        with in_one_line('' if self.recipe.single else f'stage {stage.name!r}: '):
            if stage.kind == TRAIN or is_main_process():
                result = self.runners[stage.kind](job)
            else:
                self._wait_for(stage)
        if is_main_process():
            self._note_end(stage, result, time.perf_counter() - started)
        barrier()
        self.manifest = Manifest.load(self.recipe.work_dir)

    def _job(self, stage: Stage, action: Action) -> StageJob:
        def lookup(name: str, output: str | None, where: str) -> str:
            path = self.manifest.output(name, output or '')
            if path is None:
                raise ConfigError(f'{stage.name}: {where}: stage {name!r} gave no {output}')
            return str(path)

        return StageJob(
            name=stage.name,
            folder=self.recipe.folder(stage.name),
            config=substitute(stage.config, lookup),
            options=substitute(stage.options, lookup),
            resume=action is Action.RESUME,
            launcher=self.launcher,
        )

    def _note_start(self, stage: Stage, action: Action) -> None:
        record = self.manifest.stages[stage.name]
        resumed, seconds = 0, 0.0
        if action is Action.RESUME:
            resumed = record.resumed + 1
            seconds = record.seconds + _seconds_of_broken(record, self.recipe.folder(stage.name))
        text = _stage_text(stage)
        write_file(self._text_file(stage), text)
        inputs = {
            f'{name}.{output}': self._upstream_sha256(name, output) for name, output in stage.uses
        }
        inputs.update({key: sha256(path) for key, path in input_files(stage.config).items()})
        self.manifest.stages[stage.name] = StageRecord(
            kind=stage.kind,
            state=RUNNING,
            config_sha256=text_sha256(text),
            inputs=inputs,
            seconds=round(seconds, 1),
            resumed=resumed,
            versions=versions(),
            started=time.time(),
        )
        self.manifest.save()

    def _note_end(self, stage: Stage, result: StageResult, seconds: float) -> None:
        record = self.manifest.stages[stage.name]
        self.manifest.stages[stage.name] = replace(
            record,
            state=DONE,
            metrics=result.metrics,
            seconds=round(record.seconds + seconds, 1),
            iterations=result.iterations,
            parameters=result.parameters,
            images=result.images,
        )
        self.manifest.set_outputs(stage.name, result.outputs)
        self.manifest.save()
        self._say(f'{stage.name}: finished in {seconds:.0f} s')

    def _wait_for(self, stage: Stage) -> None:
        """Wait for the main process without a collective call, whose time limit a long stage would exceed."""
        while Manifest.load(self.recipe.work_dir).stages[stage.name].state != DONE:
            time.sleep(_POLL_SECONDS)

    def _say(self, line: str) -> None:
        if is_main_process():
            self.report(line)


def _words(names: str | Collection[str]) -> str:
    return names if isinstance(names, str) else ' '.join(names)


def _seconds_of_broken(record: StageRecord, folder: Path) -> float:
    """Return how long a process worked that could not say when it ended: until it wrote its last file."""
    times = [
        path.stat().st_mtime
        for path in folder.rglob('*')
        if path.is_file() and path.name != MANIFEST
    ]
    if not record.started or not times:
        return 0.0
    return max(max(times) - record.started, 0.0)


def _stage_text(stage: Stage) -> str:
    """Return what determines a stage, as text: the kind, its config and its options."""
    essential: dict[str, Any] = {'kind': stage.kind, 'options': stage.options}
    return config_text({**stage.config, **{f'stage.{key}': v for key, v in essential.items()}})
