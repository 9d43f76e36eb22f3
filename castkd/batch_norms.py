"""Batch norms of a network that trains: their statistics, and what happens where they see a single value."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from castkd.errors import ConfigError


@contextmanager
def frozen_batch_statistics(network: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms as they are while the context is open.

    The layers still normalise with the batch's own statistics when they train.
    """
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True


@contextmanager
def single_values_in_one_line(model: nn.Module) -> Iterator[None]:
    """Name the batch norm of ``model`` that trains on a single value per channel inside the context.

    Raises:
        ConfigError: When one did: a map of one image was pooled to 1 x 1, and a value has no variance.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith('Expected more than 1 value per channel'):
            raise
        names = {id(module): name for name, module in model.named_modules()}
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        owners = [id(frame.f_locals.get('self')) for frame in reversed(frames)]
        where = next((names[owner] for owner in owners if owner in names), 'student')
        raise ConfigError(
            f'model.{where} normalises one value per channel: this process trains on one image of a view, pooled to '
            '1 x 1 there. Give it two (train_dataloader.batch_size and batch_sampler.counts), or take '
            "sync_bn='torch' and several processes"
        ) from error
