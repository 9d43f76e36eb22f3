"""No checkpoint with NaN weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from castkd.errors import TrainingError
from castkd.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.runner import Runner


@HOOKS.register_module()
class StopOnNonFinite(Hook):
    """Stop instead of saving weights that are NaN or infinite.

    The distiller stops on a loss that is not finite before it does harm. A finite loss can still have gradients that
    are not, and then the step spoils the weights. This hook acts before each checkpoint is written; it reads the
    weights that would be saved; it changes and stores nothing. The last good checkpoint stays the last one.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the weights.

        Raises:
            TrainingError: When a weight is not finite; names the first one.
        """
        broken = [
            name
            for name, value in checkpoint['state_dict'].items()
            if value.is_floating_point() and not torch.isfinite(value).all()
        ]
        if broken:
            last = find_latest_checkpoint(runner.work_dir) or 'none'
            raise TrainingError(
                f'{broken[0]} and {len(broken) - 1} other weights are not finite at iteration {runner.iter + 1}, '
                f'no checkpoint is written (last good: {last}); lower the learning rate, clip gradients, or '
                'train without fp16'
            )
