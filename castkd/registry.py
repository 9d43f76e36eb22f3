"""Child registries with the scope ``castkd``.

A config names a part of castkd as ``castkd.Name``; everything else resolves in mmengine, mmdet or mmseg as usual.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.config import ConfigDict
from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

if TYPE_CHECKING:
    from torch import nn


def _child(name: str, parent: Registry, *locations: str) -> Registry:
    modules = [f'castkd.{location}' for location in locations]
    return Registry(name, parent=parent, scope='castkd', locations=modules)


MODELS = _child(
    'model',
    MMENGINE_MODELS,
    'losses',
    'backbones',
    'connectors',
    'heads',
    'teachers',
    'objectives',
    'distiller',
)
DATASETS = _child('dataset', MMENGINE_DATASETS, 'datasets')
TRANSFORMS = _child('transform', MMENGINE_TRANSFORMS, 'datasets.transforms')
DATA_SAMPLERS = _child('data sampler', MMENGINE_DATA_SAMPLERS, 'datasets')
HOOKS = _child('hook', MMENGINE_HOOKS, 'hooks')
LOOPS = _child('loop', MMENGINE_LOOPS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', MMENGINE_OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer wrapper constructor', MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'engine'
)
PARAM_SCHEDULERS = _child('parameter scheduler', MMENGINE_PARAM_SCHEDULERS, 'engine')
METRICS = _child('metric', MMENGINE_METRICS, 'evaluation')


def build_model(config: dict | nn.Module, **defaults: object) -> nn.Module:
    """Build a network or another model part, or return it when it is built already.

    Args:
        config: Config with ``type``; plain dicts are as good as mmengine's.
        defaults: Constructor arguments that the config may override.

    Returns:
        The built object.
    """
    if not isinstance(config, dict):
        return config
    return MODELS.build(ConfigDict(config), default_args=defaults or None)
