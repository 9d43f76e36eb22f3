import logging
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from castkd.datasets import SourceDataset
from castkd.engine.loops import SAMPLER_KEY, seed_step
from castkd.errors import CheckpointError, ConfigError, DataError
from castkd.registry import DATASETS, METRICS, MODELS

LOADED = []


@DATASETS.register_module()
class LoopNumbers(BaseDataset):
    """Noisy numbers; tells in LOADED which were read."""

    def __init__(self, size, name, broken=None, **options):
        self.size, self.name, self.broken = size, name, broken
        super().__init__(serialize_data=False, **options)

    def load_data_list(self):
        return [{'img_path': f'{i}.png'} for i in range(self.size)]

    def prepare_data(self, index):
        if index == self.broken:
            raise DataError(f'image {index} is broken; mend it')
        LOADED.append((self.name, index))
        noise = np.random.rand() + random.random() + torch.rand(1).item()
        return {'inputs': torch.tensor([float(index), noise, 1.0])}


@MODELS.register_module()
class LoopModel(BaseModel):
    """A regression with dropout and draws from every random state."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
        )

    def forward(self, inputs, mode):
        values = self.net(torch.stack(inputs))
        if mode == 'loss':
            weight = np.random.rand() + random.random() + torch.rand(1)
            return {'loss': (values**2).mean() * weight.squeeze()}
        torch.rand(3)
        return [{'value': value.item()} for value in values]


@METRICS.register_module()
class LoopMetric(BaseMetric):
    """A metric that draws from every random state."""

    def process(self, data_batch, data_samples):
        np.random.rand()
        random.random()
        self.results.extend(sample['value'] for sample in data_samples)

    def compute_metrics(self, results):
        return {'mean': float(np.mean(results))}


def train_dataloader(workers=0, batch_sampler=True, sizes=(4, 23), **options):
    numbers = {'type': 'castkd.LoopNumbers', **options}
    sources = {
        name: {**numbers, 'size': size, 'name': name}
        for name, size in zip(('labeled', 'unlabeled'), sizes, strict=True)
    }
    ratio = {'type': 'castkd.RatioBatchSampler', 'counts': {'labeled': 2, 'unlabeled': 3}}
    return {
        'dataset': {'type': 'castkd.SourceDataset', 'sources': sources},
        'batch_size': 5,
        'num_workers': workers,
        'sampler': {'type': 'InfiniteSampler'},
        **({'batch_sampler': ratio} if batch_sampler else {}),
    }


def validation():
    numbers = {'type': 'castkd.LoopNumbers', 'size': 3, 'name': 'val'}
    return {
        'val_dataloader': {
            'dataset': numbers,
            'sampler': {'type': 'DefaultSampler'},
            'batch_size': 1,
        },
        'val_cfg': {},
        'val_evaluator': {'type': 'castkd.LoopMetric'},
    }


@pytest.fixture
def train(tmp_path, request):
    count = iter(range(100))

    def run(iterations, folder, *, val=False, seed=0, loader=None, prepare=None, **options):
        LOADED.clear()
        runner = Runner(
            model={'type': 'castkd.LoopModel'},
            work_dir=str(tmp_path / folder),
            train_dataloader=loader or train_dataloader(),
            optim_wrapper={'optimizer': {'type': 'Adam', 'lr': 0.01}},
            param_scheduler={'type': 'PolyLR', 'by_epoch': False, 'begin': 0, 'end': 10},
            train_cfg={
                'type': 'castkd.ResumableIterLoop',
                'max_iters': iterations,
                'val_interval': 3,
            },
            default_hooks={
                'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 5}
            },
            randomness={'seed': seed},
            experiment_name=f'{request.node.name}{next(count)}',
            log_level='ERROR',
            **(validation() if val else {}),
            **options,
        )
        if prepare is not None:
            prepare(runner)
        model = runner.train()
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        return weights, [item for item in LOADED if item[0] != 'val']

    return run


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_resumed_run_equals_a_straight_one(train):
    straight, loaded = train(10, 'straight')
    _, before = train(5, 'broken')
    resumed, after = train(10, 'broken', resume=True)
    assert_equal(resumed, straight)
    assert len(before) == len(after) == 25
    assert before + after == loaded


def test_nothing_seen_before_is_read_again(train):
    train(5, 'run')
    _, after = train(6, 'run', resume=True)
    assert len(after) == 5


@pytest.mark.parametrize('workers', [0, 2])
def test_workers_make_no_difference(train, workers):
    """Prefetched batches are not lost to a resume, nor read twice."""
    straight, _ = train(10, 'straight')
    loader = train_dataloader(workers)
    train(5, 'broken', loader=loader)
    resumed, _ = train(10, 'broken', loader=loader, resume=True)
    assert_equal(resumed, straight)


def test_validation_makes_no_difference(train):
    straight, loaded = train(10, 'straight')
    validated, also_loaded = train(10, 'validated', val=True)
    assert_equal(validated, straight)
    assert also_loaded == loaded


def test_seed_makes_a_difference(train):
    first, loaded = train(2, 'first')
    second, also_loaded = train(2, 'second', seed=1)
    assert not torch.equal(first['net.0.weight'], second['net.0.weight'])
    assert loaded != also_loaded


def test_resume_takes_the_seed_of_the_checkpoint(train):
    straight, _ = train(10, 'straight', seed=3)
    train(5, 'broken', seed=3)
    resumed, _ = train(10, 'broken', seed=None, resume=True)
    assert_equal(resumed, straight)


def test_resume_with_other_data_is_refused(train):
    train(5, 'run')
    with pytest.raises(CheckpointError, match=r"sizes .*'unlabeled': 23.* now .*'unlabeled': 22"):
        train(10, 'run', loader=train_dataloader(sizes=(4, 22)), resume=True)


def test_what_another_run_left_in_the_message_hub_is_no_resume(train):
    """Stages that one process starts within a second share mmengine's message hub."""
    other = {'seed': 5, 'counts': {'labeled': 1}, 'sizes': {'labeled': 9}}
    train(1, 'run', prepare=lambda runner: runner.message_hub.update_info(SAMPLER_KEY, other))


def test_new_start_from_a_checkpoint_begins_at_the_first_batch(train, tmp_path):
    _, loaded = train(5, 'first')
    checkpoint = str(tmp_path / 'first' / 'iter_5.pth')
    _, again = train(5, 'second', load_from=checkpoint)
    assert again == loaded


def test_weights_of_another_run_do_not_bring_its_step(train, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(LoopModel, 'set_step', lambda _, step: steps.append(step), raising=False)
    train(5, 'first')
    checkpoint = str(tmp_path / 'first' / 'iter_5.pth')
    train(1, 'second', load_from=checkpoint)
    train(6, 'first', resume=True)
    assert steps == [0, 0, 5]


def test_ratio_is_logged(train, monkeypatch):
    lines = []
    monkeypatch.setattr(logging.Logger, 'info', lambda _, text, *rest: lines.append(str(text)))
    train(1, 'run')
    assert 'per step 2 labeled + 3 unlabeled; one pass over the unlabeled = 8 steps' in lines


def test_views_that_no_objective_reads_are_not_made(train, monkeypatch):
    lines, asked = [], []
    monkeypatch.setattr(logging.Logger, 'info', lambda _, text, *rest: lines.append(str(text)))
    monkeypatch.setattr(LoopModel, 'batch_views', lambda _: {'sup'}, raising=False)

    def keep(dataset, names):
        # Before anything is read.
        asked.append((names, list(LOADED)))
        return ['sup_strong']

    monkeypatch.setattr(SourceDataset, 'keep_views', keep)
    train(1, 'run')
    assert asked == [({'sup'}, [])]
    assert 'views that no objective reads are not made: sup_strong' in lines


def test_other_samplers_are_refused(train):
    with pytest.raises(ConfigError, match=r'must be a castkd.RatioBatchSampler, got BatchSampler'):
        train(1, 'run', loader=train_dataloader(batch_sampler=False))


@pytest.mark.parametrize('workers', [0, 1])
def test_error_of_a_worker_is_one_line(train, workers):
    with pytest.raises(DataError, match=r'^image 2 is broken; mend it$'):
        train(10, 'run', loader=train_dataloader(workers, broken=2))


def test_step_seed_covers_every_random_state():
    def draws(seed, step):
        seed_step(seed, step)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draws(0, 4) == draws(0, 4)
    for other in (draws(0, 5), draws(1, 4)):
        assert all(a != b for a, b in zip(other, draws(0, 4), strict=True))
