"""Rates and weight decay per parameter."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import is_norm
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from castkd.registry import OPTIM_WRAPPER_CONSTRUCTORS


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
