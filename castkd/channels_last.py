"""Feature maps channels last in memory, and the networks that cannot keep them so."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from castkd.errors import ConfigError

# These read no maps (B, C, H, W), or are made of PyTorch's own operators.
_HARMLESS = {
    'BaseMergeCell',
    'ConcatCell',
    'CrissCrossAttention',
    'GlobalPoolingCell',
    'MultiScaleDeformableAttention',
    'SigmoidFocalLoss',
    'SoftmaxFocalLoss',
    'SumCell',
}


def check_channels_last(networks: Mapping[str, nn.Module]) -> None:
    """Check that no network has a compiled operator of mmcv on maps: most take every map for one with channels first.

    What they return for another one are numbers of the right shape and no error.

    Args:
        networks: Network per name.

    Raises:
        ConfigError: Naming the first such operator.
    """
    for name, network in networks.items():
        for path, module in network.named_modules():
            found = _operator(module)
            if found:
                raise ConfigError(
                    f'channels_last: {name!r} has {found} of mmcv ({path}), which may read maps as if channels came '
                    'first; leave channels_last out'
                )


def _operator(module: nn.Module) -> str | None:
    """Return the name of the operator of mmcv that a module is, or is derived from."""
    names = [
        base.__name__ for base in type(module).__mro__ if base.__module__.startswith('mmcv.ops.')
    ]
    return None if not names or names[0] in _HARMLESS else names[0]
