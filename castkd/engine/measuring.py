"""What a training step and a prediction cost on this machine, measured on real data."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from castkd.engine.costs import load_teachers, operation_counter
from castkd.engine.loops import leave_out_unread_views
from castkd.errors import CastkdError, DataError

_TIMED_BATCHES = 2


def bare_loader(config: Mapping[str, Any], seed: int) -> DataLoader:
    """Build a dataloader that reads in this process.

    Raises:
        CastkdError: When its data are missing or wrong.
    """
    loader = copy.deepcopy(dict(config))
    loader.update(num_workers=0, persistent_workers=False)
    loader.pop('prefetch_factor', None)
    return Runner.build_dataloader(loader, seed=seed)


def time_training(
    model: nn.Module, optim_wrapper: Mapping[str, Any], loader: DataLoader
) -> tuple[float, Any]:
    """Train for a few steps; teachers whose files do not exist work with random weights.

    Args:
        model: Distiller or plain model; its weights change.
        optim_wrapper: Config of the optimiser.
        loader: Training data.

    Returns:
        Seconds per step, reading included, and the last batch.

    Raises:
        CastkdError: When an image cannot be read, a step fails, or there is no batch.
    """
    load_teachers(model)
    leave_out_unread_views(model, loader)
    wrapper = build_optim_wrapper(model, copy.deepcopy(optim_wrapper))
    model.train()
    return _time(loader, lambda batch: model.train_step(batch, wrapper))


@torch.no_grad()
def time_prediction(model: nn.Module, loader: DataLoader) -> float:
    """Return the seconds that a validation takes per image: reading and predicting, without the metric.

    Args:
        model: Distiller or plain model.
        loader: Validation data.

    Raises:
        CastkdError: When an image cannot be read or predicted, or there is no batch.
    """
    model.eval()
    seconds, batch = _time(loader, model.val_step)
    return seconds / len(batch['inputs'])


def _time(loader: DataLoader, run: Callable[[Any], object]) -> tuple[float, Any]:
    """Return seconds of the last of the first batches, and that batch: the first one warms up."""
    batches, seconds, last = iter(loader), 0.0, None
    for _ in range(_TIMED_BATCHES):
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            break
        run(batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds, last = time.perf_counter() - started, batch
    if last is None:
        raise DataError(
            f'{len(loader.dataset)} images make no batch; check the data, batch_size and drop_last'
        )
    return seconds, last


def one_image(model: nn.Module, batch: Mapping[str, Any]) -> tuple[torch.Tensor, list]:
    """Return one normalised image (1, 3, H, W) of a batch, of the first view if it has several, and its sample."""
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    inputs, samples = data['inputs'], data['data_samples']
    if isinstance(inputs, Mapping):
        view = next(iter(inputs))
        inputs, samples = inputs[view], samples[view]
    return inputs[:1], samples[:1]


@torch.no_grad()
def count_operations(network: nn.Module, image: torch.Tensor, samples: list) -> float | None:
    """Return the operations (two per multiply-add) of one prediction, None when the network cannot make one."""
    training = network.training
    network.eval()
    counter = operation_counter()
    try:
        with counter:
            network(image, copy.deepcopy(samples), mode='tensor')
    except (CastkdError, TypeError, RuntimeError, KeyError, AttributeError):
        return None
    finally:
        network.train(training)
    return float(counter.get_total_flops())
