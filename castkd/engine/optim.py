"""Rates and weight decay per parameter; mixed precision without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmcv.cnn import is_norm
from mmengine.device import get_device
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from castkd.errors import ConfigError
from castkd.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

MIXED_PRECISION = ('AmpOptimWrapper', 'castkd.Bfloat16OptimWrapper')


def mixed_precision() -> dict[str, Any]:
    """Return what makes a plain ``optim_wrapper`` of a config one of mixed precision on this machine."""
    if get_device() == 'cpu':
        return {'type': MIXED_PRECISION[1]}
    return {'type': MIXED_PRECISION[0], 'loss_scale': 'dynamic'}


@OPTIM_WRAPPERS.register_module()
class Bfloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, on CPUs too, where mmengine's ``AmpOptimWrapper`` refuses to work.

    bfloat16 has the range of float32, so that losses need no scale. Weights, gradients and the optimiser stay in
    float32. Takes the arguments of mmengine's ``OptimWrapper``.

    Raises:
        ConfigError: In a forward pass with an operator that has no such form, as mmcv's RoIAlign and NMS on a CPU.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass under autocast, besides what mmengine's wrapper does."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            try:
                yield
            # Operators that go through numpy raise the latter.
            except (RuntimeError, TypeError) as error:
                if 'BFloat16' not in str(error):
                    raise
                raise ConfigError(
                    'mixed precision: an operator of this model has no bfloat16 form on this machine '
                    f'({str(error).splitlines()[0]}); train without --amp, and in another '
                    '--work-dir where stages were finished with it'
                ) from error


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NormDecayConstructor(DefaultOptimWrapperConstructor):
    """mmengine's rules, with ``norm_decay_mult`` for every norm.

    mmengine skips ``norm_decay_mult`` where a custom key fits, so that a lower rate for the backbone also brings decay
    back to its norms. Here a custom key sets the rate of a norm, and ``norm_decay_mult``, if it is given, its decay.

    Takes the arguments of mmengine's ``DefaultOptimWrapperConstructor``.
    """

    def add_params(
        self,
        params: list[dict[str, Any]],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: float | None = None,
    ) -> None:
        """Append one group per parameter of the module and of those in it."""
        given = self.paramwise_cfg
        if is_norm(module) and given.get('norm_decay_mult') is not None:
            self.paramwise_cfg = self._for_norms()
        super().add_params(params, module, prefix, is_dcn_module)
        self.paramwise_cfg = given

    def _for_norms(self) -> dict[str, Any]:
        decay = {'decay_mult': self.paramwise_cfg['norm_decay_mult']}
        keys = self.paramwise_cfg.get('custom_keys', {})
        return {
            **self.paramwise_cfg,
            'custom_keys': {key: {**options, **decay} for key, options in keys.items()},
        }
