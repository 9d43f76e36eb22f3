"""Feature maps channels last in memory, and the networks that cannot keep them so."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from castkd.errors import ConfigError

# These read no maps (B, C, H, W).
_HARMLESS = {
    'Linear',
    'MultiScaleDeformableAttention',
    'SigmoidFocalLoss',
    'SoftmaxFocalLoss',
    'SyncBatchNorm',
}


def check_channels_last(networks: Mapping[str, nn.Module]) -> None:
    """Check that no network has an operator of mmcv on maps: these take every map for one with channels first.

    What they return for another one are numbers of the right shape and no error.

    Args:
        networks: Network per name.

    Raises:
        ConfigError: Naming the first such operator.
    """
    for name, network in networks.items():
        for path, module in network.named_modules():
            kind = type(module)
            if kind.__module__.startswith('mmcv.ops.') and kind.__name__ not in _HARMLESS:
                raise ConfigError(
                    f'channels_last: {name!r} has {kind.__name__} of mmcv ({path}), which reads maps with channels '
                    'first alone; leave channels_last out'
                )
