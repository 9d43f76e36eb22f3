"""Which images make up batch t: a pure function of (seed, t), so a resumed run needs no replay."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from castkd.checks import check_number
from castkd.datasets.source import Draw, SourceDataset
from castkd.errors import CheckpointError, ConfigError, DataError, near_names
from castkd.registry import DATA_SAMPLERS


def derive_seed(*parts: int | str) -> int:
    """Hash parts to a seed in [0, 2**32) that is the same on every machine and python version."""
    text = '/'.join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), 'little')


@DATA_SAMPLERS.register_module()
class RatioBatchSampler(Sampler[list[Draw]]):
    """An endless stream of batches with an exact number of images from each source.

    Every source is an endless chain of seeded permutations. Batch t takes the next images of each chain; the processes
    of a distributed run take disjoint stretches. A source with fewer images than its count comes round within a batch.
    No state moves while batches are drawn: position t is all there is, so prefetching workers do no harm.

    In an mmengine dataloader config, which hands a batch sampler its dataset and seed by way of a sampler::

        train_dataloader = dict(
            batch_size=8,
            sampler=dict(type='DefaultSampler'),
            batch_sampler=dict(
                type='castkd.RatioBatchSampler', counts=dict(labeled=2, unlabeled=6)
            ),
        )

    Args:
        counts: Images per source in one batch of one process; 0 leaves a source out.
        dataset: The sources; None takes the sampler's.
        sampler: Carrier of dataset and seed, as mmengine passes it.
        batch_size: As mmengine passes it; must be the sum of counts.
        seed: Seed of all streams; None takes the sampler's, or 0.
        rank: Number of this process; None asks mmengine.
        world_size: Number of processes; None asks mmengine.

    Raises:
        ConfigError: When counts do not fit the sources or the batch size.
        DataError: When a batch needs images of an empty source.
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        *,
        dataset: SourceDataset | None = None,
        sampler: Sampler | None = None,
        batch_size: int | None = None,
        seed: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        dataset = getattr(sampler, 'dataset', None) if dataset is None else dataset
        if not isinstance(dataset, SourceDataset):
            raise ConfigError(
                f'RatioBatchSampler: the dataset must be a castkd.SourceDataset, got {type(dataset).__name__}; set '
                "sampler=dict(type='DefaultSampler') beside batch_sampler so that the dataset arrives here"
            )
        here, everywhere = get_dist_info()
        self.sampler = sampler
        self.dataset = dataset
        self.counts = dict(counts)
        self.seed = next((s for s in (seed, getattr(sampler, 'seed', None)) if s is not None), 0)
        self.rank = here if rank is None else rank
        self.world_size = everywhere if world_size is None else world_size
        self.start = 0
        self._sizes = dataset.sizes
        self._permutations: dict[str, tuple[int, np.ndarray]] = {}
        self._check(batch_size)
        self.batch_size = sum(self.counts.values())

    def _check(self, batch_size: int | None) -> None:
        for name, count in self.counts.items():
            if name not in self._sizes:
                raise ConfigError(
                    f'RatioBatchSampler: counts names the source {name!r}; {near_names(name, self._sizes)}'
                )
            check_number('RatioBatchSampler', f'counts.{name}', count, low=0, integer=True)
            if count and not self._sizes[name]:
                raise DataError(
                    f'source {name!r} has no image left, the split labels them all, but counts.{name} is {count}; '
                    f'label fewer images or set counts.{name}=0'
                )
        missing = sorted(set(self._sizes) - set(self.counts))
        if missing:
            raise ConfigError(
                f'RatioBatchSampler: counts lacks the source {missing[0]!r}; write 0 to leave it out'
            )
        total = sum(self.counts.values())
        if total == 0:
            raise ConfigError(
                'RatioBatchSampler: all counts are 0; a batch needs at least one image'
            )
        if batch_size not in (None, total):
            raise ConfigError(
                f'RatioBatchSampler: batch_size is {batch_size} but counts add up to {total}; set batch_size={total}'
            )

    def batch(self, step: int) -> list[Draw]:
        """Return this process's batch of a training step.

        Args:
            step: Training step, counted from 0.

        Returns:
            Draws in the order of counts.
        """
        draws = []
        for source, count in self.counts.items():
            first = (step * self.world_size + self.rank) * count
            draws.extend(self._draw(source, position) for position in range(first, first + count))
        return draws

    def _draw(self, source: str, position: int) -> Draw:
        lap, offset = divmod(position, self._sizes[source])
        index = int(self._permutation(source, lap)[offset])
        return Draw(source, index, derive_seed('item', self.seed, source, position))

    def _permutation(self, source: str, lap: int) -> np.ndarray:
        cached = self._permutations.get(source)
        if cached is None or cached[0] != lap:
            # RandomState, because numpy promises that its streams never change.
            generator = np.random.RandomState(derive_seed('lap', self.seed, source, lap))
            cached = lap, generator.permutation(self._sizes[source])
            self._permutations[source] = cached
        return cached[1]

    def set_start(self, step: int) -> None:
        """Let the next iterator begin with the batch of ``step``."""
        check_number('RatioBatchSampler', 'start', step, low=0, integer=True)
        self.start = step

    def describe(self) -> str:
        """Say in words what a training step takes."""
        return self.dataset.describe(self.counts, self.world_size)

    def state_dict(self) -> dict:
        """Return what the streams depend on, beside the position, which is the training step."""
        return {
            'seed': self.seed,
            'counts': dict(self.counts),
            'sizes': dict(self._sizes),
            'processes': {'processes': self.world_size},
        }

    def load_state_dict(self, state: Mapping) -> None:
        """Go on with the streams of another run.

        Args:
            state: From :meth:`state_dict`; its seed is taken over.

        Raises:
            CheckpointError: When that run had other sources, counts or processes, so its streams cannot go on.
        """
        present = self.state_dict()
        for key in ('counts', 'sizes', 'processes'):
            if dict(state[key]) != present[key]:
                raise CheckpointError(
                    f'the checkpoint was trained with {key} {dict(state[key])} of the data sources, now they are '
                    f'{present[key]}; resume with the same data, batch and processes, or start anew with load_from'
                )
        self.seed = state['seed']
        self._permutations.clear()

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the batches from ``start`` on, without end."""
        return map(self.batch, itertools.count(self.start))

    def __len__(self) -> int:
        """Return the steps of the longest pass over a source, which mm's epoch-based parts take for an epoch."""
        shares = [
            (self._sizes[name], count * self.world_size)
            for name, count in self.counts.items()
            if count
        ]
        return max(-(-size // share) for size, share in shares)
