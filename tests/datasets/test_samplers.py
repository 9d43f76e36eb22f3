import itertools
from collections import Counter

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, DefaultSampler
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from castkd.datasets import RatioBatchSampler, SourceDataset
from castkd.datasets.samplers import derive_seed
from castkd.errors import CheckpointError, ConfigError
from castkd.registry import DATASETS

COUNTS = {'labeled': 2, 'unlabeled': 3}


@DATASETS.register_module()
class SamplerNumbers(BaseDataset):
    """The numbers below ``size``."""

    def __init__(self, size, **options):
        self.size = size
        super().__init__(serialize_data=False, **options)

    def load_data_list(self):
        return [{'img_path': f'{i}.png'} for i in range(self.size)]

    def prepare_data(self, index):
        return index


def dataset(**sizes):
    sizes = sizes or {'labeled': 5, 'unlabeled': 17}
    return SourceDataset({name: SamplerNumbers(size) for name, size in sizes.items()})


def sampler(counts=COUNTS, seed=0, data=None, **options):
    return RatioBatchSampler(counts, dataset=data or dataset(), seed=seed, **options)


def first(batches, number):
    return list(itertools.islice(iter(batches), number))


def test_counts_are_exact_in_every_batch():
    counts = {'labeled': 2, 'unlabeled': 3, 'pseudo': 1}
    data = dataset(labeled=5, unlabeled=17, pseudo=4)
    for batch in first(sampler(counts, data=data), 50):
        assert [draw.source for draw in batch] == ['labeled'] * 2 + ['unlabeled'] * 3 + ['pseudo']
        assert all(0 <= draw.index < data.sizes[draw.source] for draw in batch)


def test_each_lap_over_a_source_takes_every_image_once():
    draws = [draw for batch in first(sampler(), 170) for draw in batch]
    for source, size in dataset().sizes.items():
        indices = [draw.index for draw in draws if draw.source == source]
        laps = [indices[i : i + size] for i in range(0, len(indices) - size + 1, size)]
        assert len(laps) > 20
        assert all(sorted(lap) == list(range(size)) for lap in laps)
        assert len(set(map(tuple, laps))) > 1


def test_batch_is_a_function_of_seed_and_step():
    expected = first(sampler(), 40)
    again = sampler()
    assert [again.batch(step) for step in reversed(range(40))][::-1] == expected
    assert first(sampler(seed=1), 40) != expected


def test_streams_are_pinned():
    """Streams must not change between versions, or old checkpoints would go on with other data."""
    assert derive_seed('item', 0, 'labeled', 3) == 3802286352
    expected = np.random.RandomState(1881922384).permutation(17)[9:12]
    assert [draw.index for draw in sampler().batch(3)[2:]] == expected.tolist() == [9, 7, 11]


def test_item_seeds_differ_by_position_and_seed():
    draws = [draw for batch in first(sampler(), 200) for draw in batch]
    assert len({draw.seed for draw in draws}) == len(draws)
    assert all(0 <= draw.seed < 2**32 for draw in draws)
    assert sampler(seed=1).batch(0)[0].seed != draws[0].seed


def test_start_skips_without_drawing():
    expected = first(sampler(), 30)
    late = sampler()
    late.set_start(25)
    assert first(late, 5) == expected[25:]
    far = sampler()
    far.set_start(10**9)
    assert next(iter(far)) == far.batch(10**9)
    with pytest.raises(ConfigError, match='start must be an integer'):
        late.set_start(-1)


def test_ranks_take_disjoint_parts():
    """Two processes together see what one with twice the counts sees: every image once per lap."""
    ranks = [sampler(rank=rank, world_size=2) for rank in (0, 1)]
    one = sampler({'labeled': 4, 'unlabeled': 6})
    for step in range(40):
        parts = [set(rank.batch(step)) for rank in ranks]
        assert not parts[0] & parts[1]
        assert parts[0] | parts[1] == set(one.batch(step))


def test_small_sources_come_round_within_a_batch():
    batch = sampler({'labeled': 7, 'unlabeled': 1}, data=dataset(labeled=3, unlabeled=4)).batch(0)
    taken = Counter(draw.index for draw in batch if draw.source == 'labeled')
    assert sorted(taken.values()) == [2, 2, 3]


def test_zero_leaves_a_source_out():
    stream = sampler({'labeled': 4, 'unlabeled': 0})
    assert {draw.source for batch in first(stream, 20) for draw in batch} == {'labeled'}
    assert len(stream) == 2


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        ({'labeled': 2, 'unlabelled': 6}, r"source 'unlabelled'; did you mean 'unlabeled'"),
        ({'labeled': 2}, r"lacks the source 'unlabeled'; write 0"),
        ({'labeled': 0, 'unlabeled': 0}, 'all counts are 0'),
        ({'labeled': 2, 'unlabeled': -1}, 'counts.unlabeled must be an integer'),
        ({'labeled': 2, 'unlabeled': 1.5}, 'counts.unlabeled must be an integer'),
    ],
)
def test_bad_counts_are_refused(counts, message):
    with pytest.raises(ConfigError, match=message):
        sampler(counts)


def test_batch_size_must_be_the_sum():
    with pytest.raises(
        ConfigError, match='batch_size is 8 but counts add up to 5; set batch_size=5'
    ):
        sampler(batch_size=8)
    with pytest.raises(ConfigError, match=r'must be a castkd.SourceDataset, got SamplerNumbers'):
        RatioBatchSampler(COUNTS, sampler=DefaultSampler(SamplerNumbers(3), seed=0))


def test_length_is_the_longest_pass():
    assert len(sampler()) == 6
    assert len(sampler(world_size=2, rank=0)) == 3


def test_state_carries_the_streams_on():
    other = sampler(seed=9)
    other.batch(3)
    other.load_state_dict(sampler(seed=4).state_dict())
    assert first(other, 20) == first(sampler(seed=4), 20)


@pytest.mark.parametrize('change', ['counts', 'sizes'])
def test_state_of_other_data_is_refused(change):
    state = sampler().state_dict()
    state[change] = {'labeled': 2, 'unlabeled': 99}
    with pytest.raises(CheckpointError, match=rf"with {change} .*'unlabeled': 99"):
        sampler().load_state_dict(state)


@pytest.mark.parametrize('workers', [0, 2])
def test_runner_builds_it_from_a_config(workers):
    numbers = {'type': 'castkd.SamplerNumbers'}
    sources = {'labeled': {**numbers, 'size': 5}, 'unlabeled': {**numbers, 'size': 17}}
    config = {
        'dataset': {'type': 'castkd.SourceDataset', 'sources': sources},
        'batch_size': 5,
        'num_workers': workers,
        'sampler': {'type': 'DefaultSampler'},
        'batch_sampler': {'type': 'castkd.RatioBatchSampler', 'counts': COUNTS},
        'collate_fn': {'type': 'pseudo_collate'},
    }
    loader = Runner.build_dataloader(config, seed=3)
    assert isinstance(loader, DataLoader)
    assert loader.batch_sampler.batch_size == 5
    expected = [[draw.index for draw in batch] for batch in first(sampler(seed=3), 9)]
    iterator = iter(loader)
    assert [list(next(iterator)) for _ in range(9)] == expected
    assert len(loader) == 6
