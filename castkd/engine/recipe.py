"""Recipes: an ordered list of stages in a config file.

A recipe is a Python config with ``recipe = [dict(name='adapt', config='adapt.py'), ...]``; its other top-level keys are
variables, except ``report`` and ``work_dir``. A config without ``recipe`` is a recipe of one stage.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from castkd.checks import check_choice
from castkd.engine.config_check import RUNNER_KEYS, join_problems
from castkd.engine.optim import MIXED_PRECISION, mixed_precision
from castkd.engine.references import Scope, substitute
from castkd.errors import ConfigError, in_words, near_names

TRAIN, PSEUDO_LABEL = 'train', 'pseudo_label'
OUTPUTS = {
    TRAIN: ('checkpoint', 'split', 'config', 'metrics'),
    PSEUDO_LABEL: ('annotations',),
}
PSEUDO_LABEL_OPTIONS = (
    'checkpoint',
    'images',
    'exclude',
    'include',
    'score_thr',
    'mask_score_thr',
    'max_per_image',
    'min_area',
    'overlap',
    'min_kept',
    'batch_size',
    'reference',
    'device',
)
_REQUIRED = {TRAIN: (), PSEUDO_LABEL: ('checkpoint', 'images')}
_STAGE_KEYS = {
    TRAIN: ('name', 'kind', 'config', 'cfg_options'),
    PSEUDO_LABEL: ('name', 'kind', 'config', 'cfg_options', *PSEUDO_LABEL_OPTIONS),
}
_NO_VARIABLES = ('recipe', 'report', 'work_dir')
_NAME = re.compile(r'[A-Za-z_][\w-]*')


@dataclass
class Stage:
    """One stage of a recipe.

    Attributes:
        name: Name.
        kind: ``train`` or ``pseudo_label``.
        config: Content of its config with variables filled in; ``{stage.output}`` references stand as they are. Empty
            when an earlier stage writes the config.
        options: Entries of the recipe beside name, kind, config and cfg_options, in the same form. Holds ``config``
            and ``cfg_options`` when an earlier stage writes the config.
        uses: The outputs of earlier stages that it refers to, (stage, output) pairs.
    """

    name: str
    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    uses: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Recipe:
    """A recipe whose variables are filled in.

    Attributes:
        path: The config file.
        work_dir: Where everything goes.
        stages: Stages in order.
        variables: Value per variable.
        report: What the report shows, see :mod:`castkd.apis.results`.
        single: Whether this is a plain training config, which runs in ``work_dir`` itself.
    """

    path: Path
    work_dir: Path
    stages: list[Stage]
    variables: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    single: bool = False

    def folder(self, name: str) -> Path:
        """Return the folder of a stage."""
        return self.work_dir if self.single else self.work_dir / name

    def select(self, names: str | Iterable[str] | None) -> list[Stage]:
        """Return the stages called ``names`` (one or several) in the recipe's order, or all stages for None.

        Raises:
            ConfigError: When there is no such stage; near names are listed.
        """
        if names is None:
            return list(self.stages)
        wanted = {names} if isinstance(names, str) else set(names)
        known = [stage.name for stage in self.stages]
        for name in sorted(wanted.difference(known)):
            raise ConfigError(
                f'--stage: {str(self.path)!r} has no stage {name!r}; {near_names(name, known)}'
            )
        return [stage for stage in self.stages if stage.name in wanted]


def load_recipe(
    config: str | Path,
    *,
    work_dir: str | Path | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    amp: bool = False,
) -> Recipe:
    """Read a recipe, or a plain training config as a recipe of one stage.

    Args:
        config: The file.
        work_dir: Where to work; None takes the config's ``work_dir`` or ``work_dirs/<file name>``.
        cfg_options: New values by dotted key. Keys of the recipe's variables change those, ``STAGE.key`` changes one
            stage, everything else changes all train stages.
        amp: Whether train stages run in automatic mixed precision: float16 on a GPU, bfloat16 on a CPU.

    Raises:
        ConfigError: When the recipe is wrong; the line names the file or the dotted key.
    """
    path = Path(config)
    content = read_config(path)
    options = dict(cfg_options or {})
    if 'recipe' not in content:
        return _single(path, content, work_dir, options, amp)
    entries = _check_entries(path, content['recipe'])
    names = [entry['name'] for entry in entries]
    own = _own_options(content, names, options)
    merge_options(content, own, str(path))
    variables = {key: value for key, value in content.to_dict().items() if key not in _NO_VARIABLES}
    clash = sorted(set(names) & set(variables))
    if clash:
        raise ConfigError(f'{path}: {clash[0]!r} is a stage and a variable; rename one')
    rest = {key: value for key, value in options.items() if key not in own}
    builder = _StageBuilder(path, variables, entries, amp)
    stages = builder.build(rest)
    outside = substitute(
        {key: content.get(key) for key in ('work_dir', 'report')}, Scope(variables)
    )
    return Recipe(
        path=path,
        work_dir=_work_dir(path, outside['work_dir'], work_dir),
        stages=stages,
        variables=variables,
        report=dict(outside['report'] or {}),
    )


def read_config(path: str | Path) -> Config:
    """Read a config file.

    Raises:
        ConfigError: When the file is missing or no config; one line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f'config {str(path)!r} does not exist; check the path')
    try:
        return Config.fromfile(path)
    except Exception as error:
        # A config is code: it can fail in any way.
        reason = error
        while isinstance(reason, ImportError) and reason.__context__ is not None:
            # For custom_imports, mmengine's own errors say only that they failed.
            reason = reason.__context__
        raise ConfigError(f'config {str(path)!r} cannot be read: {in_words(reason)}') from error


def merge_options(cfg: Config, options: Mapping[str, Any], owner: str) -> None:
    """Change values of a config by dotted key.

    Raises:
        ConfigError: When an option does not fit the config.
    """
    for key, value in options.items():
        try:
            cfg.merge_from_dict({key: copy.deepcopy(value)})
        except (TypeError, KeyError, ValueError, AttributeError, AssertionError) as error:
            text = ' '.join(str(error).split())
            raise ConfigError(
                f'{owner}: option {key}={value!r} does not fit the config: {text}'
            ) from error


def _work_dir(path: Path, configured: str | None, given: str | Path | None) -> Path:
    return Path(given or configured or Path('work_dirs') / path.stem)


def _single(
    path: Path,
    content: Config,
    work_dir: str | Path | None,
    options: Mapping[str, Any],
    amp: bool,
) -> Recipe:
    merge_options(content, options, str(path))
    folder = _work_dir(path, content.get('work_dir'), work_dir)
    plain = substitute(_plain_config(content, amp, str(path)), Scope({}))
    name = path.stem if _NAME.fullmatch(path.stem) else TRAIN
    return Recipe(path, folder, [Stage(name, TRAIN, plain)], single=True)


def _check_entries(path: Path, entries: object) -> list[dict[str, Any]]:
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ConfigError(f'{path}: recipe must be a list of stages, got {entries!r}')
    problems: list[str] = []
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        where = f'recipe.{index}'
        if not isinstance(entry, Mapping):
            problems.append(f'{where}: must be a dict with name and config, got {entry!r}')
            continue
        problems += [f'{where}.{problem}' for problem in _entry_problems(entry, seen)]
        seen.add(str(entry.get('name')))
    if problems:
        raise ConfigError(join_problems(str(path), problems))
    return [dict(entry) for entry in entries]


def _entry_problems(entry: Mapping[str, Any], seen: set[str]) -> Iterable[str]:
    name, kind = entry.get('name'), entry.get('kind', TRAIN)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield f'name: must be a word of letters, digits, _ and -, got {name!r}'
    elif name in seen:
        yield f'name: there are two stages {name!r}'
    if kind not in _STAGE_KEYS:
        yield f'kind: {kind!r} is no kind of stage; {near_names(str(kind), _STAGE_KEYS)}'
        return
    for key in entry:
        if key not in _STAGE_KEYS[kind]:
            yield f'{key}: a {kind} stage has no such key; {near_names(key, _STAGE_KEYS[kind])}'
    for key in ('config', *_REQUIRED[kind]):
        if not isinstance(entry.get(key), str):
            yield f'{key}: a {kind} stage needs it, as text; got {entry.get(key)!r}'
    if not isinstance(entry.get('cfg_options') or {}, Mapping):
        yield f'cfg_options: must be a dict of dotted keys, got {entry["cfg_options"]!r}'


def _own_options(content: Config, names: list[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that change the recipe itself: variables, report, work_dir."""
    own = set(content.keys()) - {'recipe'} - set(names) | {'report', 'work_dir'}
    return {key: value for key, value in options.items() if key.split('.')[0] in own}


class _StageBuilder:
    """Turns the entries of a recipe into stages."""

    def __init__(
        self,
        path: Path,
        variables: Mapping[str, Any],
        entries: list[dict[str, Any]],
        amp: bool,
    ) -> None:
        self.path, self.variables, self.entries, self.amp = path, variables, entries, amp
        self.names = [entry['name'] for entry in entries]

    def build(self, options: Mapping[str, Any]) -> list[Stage]:
        """Return the stages with the options applied."""
        stages, unused = [], dict.fromkeys(options)
        for index, entry in enumerate(self.entries):
            own, shared = self._options_of(entry, options)
            scope = Scope(
                self.variables,
                {item['name']: OUTPUTS[item.get('kind', TRAIN)] for item in self.entries[:index]},
                tuple(self.names[index:]),
                entry['name'],
            )
            stage, top_level = self._stage(entry, own, shared, scope)
            stages.append(stage)
            for key in options:
                if key.startswith(f'{entry["name"]}.') or key.split('.')[0] in top_level:
                    unused.pop(key, None)
        if unused:
            key = next(iter(unused))
            known = [*self.variables, *self.names, *RUNNER_KEYS]
            raise ConfigError(
                f'--cfg-options {key}: no variable, stage or config key of this recipe starts with '
                f'{key.split(".")[0]!r}; {near_names(key.split(".")[0], known)}'
            )
        return stages

    def _options_of(
        self, entry: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        prefix = f'{entry["name"]}.'
        own = {key[len(prefix) :]: v for key, v in options.items() if key.startswith(prefix)}
        shared = {k: v for k, v in options.items() if k.split('.')[0] not in self.names}
        return own, shared if entry.get('kind', TRAIN) == TRAIN else {}

    def _stage(
        self,
        entry: dict[str, Any],
        own: dict[str, Any],
        shared: Mapping[str, Any],
        scope: Scope,
    ) -> tuple[Stage, set[str]]:
        kind = entry.get('kind', TRAIN)
        fixed = ('name', 'kind', 'config', 'cfg_options')
        options = {key: value for key, value in entry.items() if key not in fixed}
        if kind == PSEUDO_LABEL:
            options.update({key: own.pop(key) for key in list(own) if key in PSEUDO_LABEL_OPTIONS})
        options = substitute(options, scope)
        file = substitute(entry['config'], scope, 'config')
        given = {**shared, **own}
        shipped = {k: v for k, v in (entry.get('cfg_options') or {}).items() if k not in given}
        if scope.used and file.startswith('{'):
            if kind == TRAIN:
                raise ConfigError(
                    f'{entry["name"]}: config: a train stage needs a file of its own, got {file!r}'
                )
            options.update(
                config=file, cfg_options=substitute({**shipped, **given}, scope, 'cfg_options')
            )
            return Stage(entry['name'], kind, {}, options, scope.used), set()
        cfg = read_config(self.path.parent / file)
        known = {*cfg.keys(), *RUNNER_KEYS}
        usable = {key: value for key, value in given.items() if key.split('.')[0] in known}
        self._refuse_unknown(entry['name'], own, known)
        self._refuse_unknown(entry['name'], entry.get('cfg_options') or {}, known)
        owner = f'{self.path}: stage {entry["name"]}'
        merge_options(cfg, shipped, owner)
        # What variables stand for comes first, so that a given option may change a part of it. It may also take the
        # place of a reference to a stage, which is not used then.
        cfg = Config(substitute(cfg.to_dict(), replace(scope, used=[])))
        merge_options(cfg, usable, owner)
        plain = substitute(_plain_config(cfg, self.amp, entry['name']), scope)
        return Stage(entry['name'], kind, plain, options, scope.used), known

    @staticmethod
    def _refuse_unknown(name: str, options: Iterable[str], known: set[str]) -> None:
        for key in options:
            top = key.split('.')[0]
            if top not in known:
                raise ConfigError(
                    f'{name}: option {key!r} changes nothing in its config; {near_names(top, known)}'
                )


def _plain_config(cfg: Config, amp: bool, owner: str) -> dict[str, Any]:
    plain = cfg.to_dict()
    if amp and 'optim_wrapper' in plain:
        if not isinstance(plain['optim_wrapper'], Mapping):
            raise ConfigError(f'{owner}: optim_wrapper must be a dict for --amp')
        kind = plain['optim_wrapper'].get('type', 'OptimWrapper')
        check_choice(
            f'{owner}: --amp', 'optim_wrapper.type', kind, ('OptimWrapper', *MIXED_PRECISION)
        )
        if kind == 'OptimWrapper':
            plain['optim_wrapper'].update(mixed_precision())
    return plain
