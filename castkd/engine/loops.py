"""The training loop: a resumed run goes on at once and equals one that was never stopped."""

from __future__ import annotations

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

from castkd.datasets.samplers import derive_seed
from castkd.errors import ConfigError, in_one_line
from castkd.registry import LOOPS

SAMPLER_KEY = 'castkd.sampler'


@LOOPS.register_module()
class ResumableIterLoop(IterBasedTrainLoop):
    """mmengine's iteration loop with data and randomness that are functions of (seed, iteration).

    - Resuming sets the batch sampler to the iteration reached: nothing is read twice, or only to be skipped.
    - Before every step the random states of python, numpy and torch are set from (runner seed, iteration,
      rank), so neither a restart nor a validation in between changes what dropout or a sampled loss does.
    - The sampler's state travels in the checkpoint (``message_hub``); other data than its are refused.
    - Views of a batch behind the last one that an objective reads are not made.
    - At the start the ratio of the sources is logged in words.

    Takes the arguments of mmengine's ``IterBasedTrainLoop``; the dataloader needs a
    ``castkd.RatioBatchSampler``.

    Raises:
        ConfigError: When the dataloader has another batch sampler.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)
        self.batch_sampler = self.dataloader.batch_sampler
        if not hasattr(self.batch_sampler, 'set_start'):
            raise ConfigError(
                'ResumableIterLoop: train_dataloader.batch_sampler must be a castkd.RatioBatchSampler, got '
                f'{type(self.batch_sampler).__name__}'
            )
        self.dataloader_iterator = _Batches(self.dataloader)

    def run(self) -> torch.nn.Module:
        """Train until ``max_iters``."""
        hub = self.runner.message_hub
        saved = hub.get_info(SAMPLER_KEY)
        if self._iter > 0 and saved is not None:
            self.batch_sampler.load_state_dict(saved)
        hub.update_info(SAMPLER_KEY, self.batch_sampler.state_dict())
        self.runner.logger.info(self.batch_sampler.describe())
        self.batch_sampler.set_start(self._iter)
        model = (
            self.runner.model.module if is_model_wrapper(self.runner.model) else self.runner.model
        )
        if hasattr(model, 'set_step'):
            # Weights may come from another run's checkpoint (load_from); its step is not this run's.
            model.set_step(self._iter)
        left_out = leave_out_unread_views(model, self.dataloader)
        if left_out:
            self.runner.logger.info(
                f'views that no objective reads are not made: {", ".join(left_out)}'
            )
        return super().run()

    def run_iter(self, data_batch: dict) -> None:
        """Run one step with random states of its own."""
        seed_step(self.runner.seed, self._iter)
        super().run_iter(data_batch)


def leave_out_unread_views(model: torch.nn.Module, dataloader: DataLoader) -> list[str]:
    """Have no view made behind the last one that an objective of a distiller reads; return their names.

    Acts on what is read afterwards by an iterator that does not exist yet: workers hold copies of the data set.
    """
    if not hasattr(model, 'batch_views') or not hasattr(dataloader.dataset, 'keep_views'):
        return []
    return dataloader.dataset.keep_views(model.batch_views())


def seed_step(seed: int, step: int) -> None:
    """Set the random states of python, numpy and torch (all devices) for one training step of this process."""
    value = derive_seed('step', seed, step, get_rank())
    random.seed(value)
    np.random.seed(value)
    torch.manual_seed(value)


class _Batches:
    """Batches from the sampler's start on; the workers begin with the first call, when the start is known."""

    def __init__(self, dataloader: DataLoader) -> None:
        self._dataloader = dataloader
        self._iterator = None

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> object:
        if self._iterator is None:
            self._iterator = iter(self._dataloader)
        with in_one_line():
            return next(self._iterator)

    def skip_iter(self, num_iters: int) -> None:
        """Begin behind ``num_iters`` batches; mmengine's loop calls it when it resumes."""
        self._dataloader.batch_sampler.set_start(num_iters)
        self._iterator = None
