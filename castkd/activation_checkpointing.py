"""Memory for time: what parts of a network computed is computed again in the backward run, in place of being kept.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from castkd.errors import ConfigError, near_names


def checkpoint_activations(network: nn.Module, patterns: Sequence[str]) -> None:
    """Make modules of a network keep their inputs alone for a backward run, and run again in it.

    Losses, gradients and random numbers stay what they are. Runs without gradients are not touched.

    Args:
        network: The network; it is changed in place.
        patterns: Paths of its modules, ``*`` for anything: ``encoder.layers.*``. A module inside a chosen one is not
            chosen again.

    Raises:
        ConfigError: When a pattern fits no module, or a chosen one has norms whose statistics would count a batch
            twice.
    """
    # Lists of modules are never called themselves.
    names = [
        name
        for name, module in network.named_modules()
        if name and not isinstance(module, (nn.ModuleList, nn.ModuleDict))
    ]
    chosen: set[str] = set()
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise ConfigError(
                f'activation_checkpointing: {type(network).__name__} has no module {pattern!r}; '
                f'{near_names(pattern, names)}'
            )
        chosen.update(found)
    for name in sorted(chosen):
        if not any(name.startswith(f'{other}.') for other in chosen):
            _recompute(network.get_submodule(name), name)


def recomputed_modules(network: nn.Module) -> Iterator[nn.Module]:
    """Give the modules of a network that run again in the backward run."""
    return (module for module in network.modules() if isinstance(module, _Recomputed))


def _recompute(module: nn.Module, name: str) -> None:
    for inner, part in module.named_modules():
        if isinstance(part, _BatchNorm) and part.track_running_stats:
            raise ConfigError(
                f'activation_checkpointing: {name!r} has the norm {inner or "itself"!r}, whose running statistics '
                'would count each batch twice; choose modules without batch norm'
            )
    # A class of its own, since a forward set on the module would still run the first network in a copy of it.
    kind = type(module)
    module.__class__ = type(kind.__name__, (_Recomputed, kind), {})


class _Recomputed:
    """What a chosen module becomes in addition to what it is."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as any module
        run = partial(super().forward, **kwargs)
        if not torch.is_grad_enabled():
            return run(*args)
        return checkpoint(run, *args, use_reentrant=False)
