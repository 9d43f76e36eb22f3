"""Checking a whole training config before anything is built.

Every dict with a ``type`` is compared with the constructor of the class it names, and top-level keys with those that
mmengine's Runner reads. All problems come back together, each with its dotted key.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import mmengine.registry as mm
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    LogProcessor,
    Runner,
    TestLoop,
    ValLoop,
)
from mmengine.utils import get_object_from_string
from torch import nn
from torch.utils.data import DataLoader

from castkd.errors import ConfigError, in_words, near_names
from castkd.schedules import SCHEDULES

# What Runner reads from the whole config beside its own arguments, and what Config reads.
RUNNER_KEYS = (
    *(
        name
        for name in inspect.signature(Runner.__init__).parameters
        if name not in ('self', 'cfg')
    ),
    'runner_type',
    'custom_imports',
    'model_wrapper_cfg',
    'sync_bn',
    'find_unused_parameters',
    'compile',
    'activation_checkpointing',
    'efficient_conv_bn_eval',
    'vis_backends',
)
_REQUIRED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
_TOP_REGISTRIES = {
    'model': mm.MODELS,
    'data_preprocessor': mm.MODELS,
    'train_dataloader': mm.DATASETS,
    'val_dataloader': mm.DATASETS,
    'test_dataloader': mm.DATASETS,
    'train_cfg': mm.LOOPS,
    'val_cfg': mm.LOOPS,
    'test_cfg': mm.LOOPS,
    'val_evaluator': mm.METRICS,
    'test_evaluator': mm.METRICS,
    'optim_wrapper': mm.OPTIM_WRAPPERS,
    'param_scheduler': mm.PARAM_SCHEDULERS,
    'default_hooks': mm.HOOKS,
    'custom_hooks': mm.HOOKS,
    'visualizer': mm.VISUALIZERS,
    'log_processor': mm.LOG_PROCESSORS,
    'model_wrapper_cfg': mm.MODEL_WRAPPERS,
}
# Key inside one of these -> registry of what lies under it.
_INNER_REGISTRIES = {
    (mm.DATASETS, 'pipeline'): mm.TRANSFORMS,
    (mm.DATASETS, 'sampler'): mm.DATA_SAMPLERS,
    (mm.DATASETS, 'batch_sampler'): mm.DATA_SAMPLERS,
    (mm.DATASETS, 'collate_fn'): mm.FUNCTIONS,
    (mm.DATASETS, 'worker_init_fn'): mm.FUNCTIONS,
    (mm.OPTIM_WRAPPERS, 'optimizer'): mm.OPTIMIZERS,
    (mm.OPTIM_WRAPPERS, 'constructor'): mm.OPTIM_WRAPPER_CONSTRUCTORS,
    (mm.VISUALIZERS, 'vis_backends'): mm.VISBACKENDS,
    (mm.MODELS, 'init_cfg'): mm.WEIGHT_INITIALIZERS,
}
# Keys that the code around the constructor takes out of the dict.
_EXTRA_KEYS = {
    mm.HOOKS: {'priority'},
    mm.PARAM_SCHEDULERS: {'convert_to_iter_based', 'epoch_length'},
    mm.OPTIM_WRAPPERS: {'optimizer', 'constructor', 'paramwise_cfg'},
    mm.WEIGHT_INITIALIZERS: {'override', 'name'},
}
_POPPED_KEYS = {'norm_cfg': {'requires_grad'}, 'loss_cls': {'bg_cls_weight'}}
_LOADER_KEYS = {
    'dataset',
    'num_batch_per_epoch',
    'disable_subprocess_warning',
    *inspect.signature(DataLoader.__init__).parameters,
} - {'self'}
# Dicts whose type is a plain function or a layer's name, looked up by the code that reads them.
_OPAQUE_KEYS = frozenset(
    {'nms', 'nms_cfg', 'roi_layer', 'dcn', 'dcn_cfg', 'conv_cfg', 'upsample_cfg'}
)
_OPAQUE_TYPES = ('Albu',)
_CLOSE = 0.84

Problems = Iterator[str]


def check_configs(configs: Mapping[str, Mapping[str, Any]], owner: str) -> None:
    """Check the configs of several stages.

    Args:
        configs: Content of the config per stage name; the empty name for a config that stands alone.
        owner: File to name in the error.

    Raises:
        ConfigError: When there is any problem; lists all of them with dotted keys.
    """
    stages: dict[str, list[str]] = {}
    for name, config in configs.items():
        for problem in config_problems(config):
            stages.setdefault(problem, []).append(name)
    problems = [
        f'{", ".join(filter(None, names))}: {text}'.removeprefix(': ')
        for text, names in stages.items()
    ]
    if problems:
        raise ConfigError(join_problems(owner, problems))


def join_problems(owner: str, problems: list[str]) -> str:
    """Return all problems in one line, numbered when there are several."""
    if len(problems) == 1:
        return f'{owner}: {problems[0]}'
    numbered = ' '.join(f'({index}) {problem}' for index, problem in enumerate(problems, 1))
    return f'{owner}: {len(problems)} problems: {numbered}'


def config_problems(config: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a training config, one line per problem, each starting with its dotted key."""
    scope = config.get('default_scope') or 'mmengine'
    problems = [
        *_top_level_problems(config),
        *_plain_section_problems(config),
        *_schedule_problems(config),
    ]
    for key, registry in _TOP_REGISTRIES.items():
        if key in config:
            problems += _walk(config[key], key, registry, scope)
    return problems


def _top_level_problems(config: Mapping[str, Any]) -> Problems:
    for key in config:
        absent = [name for name in RUNNER_KEYS if name not in config]
        close = difflib.get_close_matches(key, absent, n=1, cutoff=_CLOSE)
        if key not in RUNNER_KEYS and close:
            yield f'{key}: nothing reads this key; did you mean {close[0]!r}?'
    for key in _REQUIRED:
        if config.get(key) is None:
            yield f'{key}: missing; a training config needs {", ".join(_REQUIRED)}'
    for part in ('val', 'test'):
        keys = [f'{part}_{name}' for name in ('dataloader', 'cfg', 'evaluator')]
        absent = [key for key in keys if config.get(key) is None]
        if 0 < len(absent) < len(keys):
            yield f'{absent[0]}: missing; {", ".join(keys)} go together'


def _plain_section_problems(config: Mapping[str, Any]) -> Problems:
    """Check the sections that need no ``type``."""
    by_epoch = {True: EpochBasedTrainLoop, False: IterBasedTrainLoop}
    train_cfg = config.get('train_cfg')
    epochs = bool(train_cfg.get('by_epoch')) if isinstance(train_cfg, Mapping) else False
    sections: dict[str, tuple[Callable, set[str]]] = {
        'train_cfg': (by_epoch[epochs], {'by_epoch'}),
        'val_cfg': (ValLoop, set()),
        'test_cfg': (TestLoop, set()),
        'optim_wrapper': (OptimWrapper, _EXTRA_KEYS[mm.OPTIM_WRAPPERS]),
        'log_processor': (LogProcessor, set()),
        'randomness': (Runner.set_randomness, set()),
    }
    for key, (reader, extra) in sections.items():
        section = config.get(key)
        if isinstance(section, Mapping) and 'type' not in section:
            yield from _key_problems(section, key, [reader], extra)
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        section = config.get(key)
        if isinstance(section, Mapping):
            for name in set(section) - _LOADER_KEYS:
                yield f'{key}.{name}: a dataloader has no such key; {near_names(name, _LOADER_KEYS)}'


def _schedule_problems(config: Mapping[str, Any]) -> Problems:
    """Find schedules that end before they begin: mmengine's error names no key."""
    schedulers, loop = config.get('param_scheduler'), config.get('train_cfg')
    if not isinstance(schedulers, (list, tuple)) or not isinstance(loop, Mapping):
        return
    for index, item in enumerate(schedulers):
        if not isinstance(item, Mapping):
            continue
        length = f'max_{"epochs" if item.get("by_epoch", True) else "iters"}'
        begin, end = item.get('begin', 0), item.get('end', loop.get(length))
        if isinstance(begin, int) and isinstance(end, int) and begin >= end:
            owner = 'its end' if 'end' in item else f'train_cfg.{length}'
            yield (
                f'param_scheduler.{index}: begins at {begin} and is over by {end} ({owner}); begin it '
                'earlier (a shorter warm-up before it) or train longer'
            )


def _walk(value: Any, path: str, registry: Registry, scope: str) -> Problems:  # noqa: ANN401
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(item, f'{path}.{index}', registry, scope)
    if not isinstance(value, Mapping):
        return
    scope = value.get('_scope_') or scope
    key = path.rsplit('.', 1)[-1]
    if key in _OPAQUE_KEYS:
        return
    if 'type' in value:
        yield from _typed_problems(value, path, registry, scope)
        if str(value['type']).endswith(_OPAQUE_TYPES):
            return
    for name, item in value.items():
        inner = _INNER_REGISTRIES.get((registry, name), registry)
        yield from _walk(item, f'{path}.{name}', inner, scope)


def _typed_problems(value: Mapping, path: str, registry: Registry, scope: str) -> Problems:
    kind = value['type']
    try:
        targets = _targets(kind, registry, scope) if isinstance(kind, str) else [kind]
    except _ImportFailedError as error:
        yield f'{path}.type: {error}'
        return
    if not targets:
        if registry is mm.MODELS and str(kind).split('.')[-1][:1].islower():
            # Not a class: a mode that the code around reads.
            return
        yield f'{path}.type: there is no {kind!r}; {_near_types(str(kind), registry, scope)}'
        return
    extra = set(_EXTRA_KEYS.get(registry, ()))
    extra |= _POPPED_KEYS.get(path.rsplit('.', 1)[-1], set())
    yield from _key_problems(value, path, targets, extra)


def _key_problems(
    value: Mapping, path: str, targets: list[Callable], extra: Iterable[str]
) -> Problems:
    """Compare keys with the first target, unless another one of the same name takes them all."""
    keys = [str(key) for key in value if key not in ('type', '_scope_', '_delete_')]
    unknown = [_unknown_keys(target, keys, extra) for target in targets]
    fewest = min(unknown, key=len)
    target = targets[unknown.index(fewest)]
    names, _ = _accepted(target)
    for key in fewest:
        owner = getattr(target, '__name__', str(target))
        yield f'{path}.{key}: {owner} has no such key; {near_names(key, {*names, *extra})}'


def _unknown_keys(target: Callable, keys: list[str], extra: Iterable[str]) -> list[str]:
    names, is_open = _accepted(target)
    known = {*names, *extra}
    unknown = [key for key in keys if key not in known]
    if is_open:
        # Keys may be meant for whatever the class hands them to: only an obvious slip is a problem.
        unknown = [key for key in unknown if difflib.get_close_matches(key, known, 1, _CLOSE)]
    return unknown


@functools.cache
def _accepted(target: Callable) -> tuple[frozenset[str], bool]:
    """Return the names that a class or function takes, and whether it takes others too.

    ``**kwargs`` of a class goes to its base classes by mm's habit, so their names count.
    """
    functions: list[Callable] = [target]
    if inspect.isclass(target):
        chain = [kind for kind in target.__mro__ if '__init__' in vars(kind)]
        functions = [kind.__init__ for kind in chain if kind not in (object, nn.Module)]
    names: set[str] = set()
    for index, function in enumerate(functions):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return frozenset(names), True
        names |= {
            item.name
            for item in parameters
            if item.kind not in (item.VAR_KEYWORD, item.VAR_POSITIONAL)
        }
        if not any(item.kind is item.VAR_KEYWORD for item in parameters):
            return frozenset(names - {'self'}), index > 0
    return frozenset(names - {'self'}), bool(functions)


def _targets(kind: str, registry: Registry, scope: str) -> list[Callable]:
    """Return what a type may mean: in the registry of its place, otherwise in any other."""
    found = _find(kind, registry, scope)
    targets = [found] if found is not None else []
    if registry is mm.MODELS and kind in SCHEDULES:
        targets.append(SCHEDULES[kind])
    if targets:
        return targets
    others = [_find(kind, root, scope) for root in _roots() if root is not registry]
    targets = [target for target in others if target is not None]
    if not targets and '.' in kind:
        targets = [get_object_from_string(kind)]
    return [target for target in targets if callable(target)]


def _find(kind: str, root: Registry, scope: str) -> Callable | None:
    given, _, name = kind.rpartition('.')
    for registry in _registries(root, given or scope, only=bool(given)):
        if name in registry.module_dict:
            return registry.module_dict[name]
    return None


def _registries(root: Registry, scope: str, *, only: bool) -> Iterator[Registry]:
    # Not everything in front of a name is a package with registries.
    if _import(scope):
        _import(f'{scope}.registry')
    registry = root if scope == root.scope else root.children.get(scope)
    if registry is not None:
        try:
            registry.import_from_location()
        except Exception as error:
            raise _ImportFailedError(f'package {scope!r}', error) from error
        yield registry
    if registry is not root and not only:
        yield root


class _ImportFailedError(Exception):
    """A module is there, but importing it fails."""

    def __init__(self, what: str, error: Exception) -> None:
        reason = in_words(error)
        super().__init__(f'{what} cannot be imported ({reason}); mend it or install what it needs')


@functools.cache
def _import(name: str) -> bool:
    """Import a module and return whether there is one of that name.

    Raises:
        _ImportFailedError: When there is one and importing it fails, in whatever way code can fail.
    """
    try:
        importlib.import_module(name)
    except Exception as error:
        absent = isinstance(error, ModuleNotFoundError) and f'{name}.'.startswith(f'{error.name}.')
        if absent:
            return False
        raise _ImportFailedError(repr(name), error) from error
    return True


def _roots() -> list[Registry]:
    return [item for item in vars(mm).values() if isinstance(item, Registry)]


def _near_types(kind: str, registry: Registry, scope: str) -> str:
    given, _, name = kind.rpartition('.')
    known: set[str] = set()
    for found in _registries(registry, given or scope, only=bool(given)):
        known |= set(found.module_dict)
    if not known:
        return f'no package {given or scope!r} with such classes is installed'
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    prefix = f'{given}.' if given else ''
    if not close:
        return f'{len(known)} other {registry.name} types are known'
    return near_names(f'{prefix}{name}', [f'{prefix}{item}' for item in close])
