"""The shared runtime and schedule build what they promise."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import PolyLR, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import find_latest_checkpoint
from torch import nn

from castkd.registry import HOOKS
from tests.hooks.toy import toy_distiller, toy_runner

BASE = Path(__file__).parents[2] / 'configs' / '_base_'


@pytest.fixture(scope='module')
def runtime():
    return Config.fromfile(BASE / 'runtime' / 'default.py')


@pytest.fixture(scope='module')
def schedule():
    return Config.fromfile(BASE / 'schedules' / 'adamw_poly.py')


def test_runtime_trains(tmp_path, runtime):
    hooks = [HOOKS.build(dict(config)) for config in runtime.custom_hooks]
    assert len({type(hook) for hook in hooks}) == len(hooks) == 7
    toy_runner(tmp_path, toy_distiller(), hooks, max_iters=2).train()
    assert find_latest_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_2.pth')


def test_a_failed_save_leaves_an_older_checkpoint(runtime):
    # mmengine removes the oldest checkpoint before it writes the new one.
    checkpoint = runtime.default_hooks.checkpoint
    assert checkpoint.max_keep_ckpts >= 2
    assert checkpoint.save_last
    assert not checkpoint.by_epoch
    assert not runtime.log_processor.by_epoch


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 1, 1))
        self.backbone.cls_token = nn.Parameter(torch.ones(1))
        self.head = nn.Sequential(nn.Conv2d(1, 1, 1), nn.GroupNorm(1, 1))
        self.query_embed = nn.Embedding(2, 2)


def test_rates_and_decay_follow_the_paper(schedule):
    wrapper = build_optim_wrapper(Network(), schedule.optim_wrapper)
    names = [name for name, _ in Network().named_parameters()]
    order = ['query_embed.weight', *[name for name in names if not name.startswith('query')]]
    groups = wrapper.optimizer.param_groups
    assert len(groups) == len(names)
    found = sorted((group['lr'], group['weight_decay']) for group in groups)
    expected = {
        'backbone.0': (5e-6, 0.1),
        'backbone.cls_token': (5e-6, 0.0),
        'head.0': (5e-5, 0.1),
        'head.1': (5e-5, 0.0),
        'query_embed': (5e-5, 0.0),
    }
    wanted = sorted(
        next(value for key, value in expected.items() if name.startswith(key)) for name in order
    )
    assert found == [pytest.approx(pair) for pair in wanted]
    assert wrapper.clip_grad_kwargs == {'max_norm': 0.01, 'norm_type': 2}


def test_rate_decays_with_power_nine_tenths(schedule):
    rate = schedule.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=rate)
    (config,) = schedule.param_scheduler
    assert 'end' not in config
    assert schedule.train_cfg.max_iters == 90_000
    decay = PARAM_SCHEDULERS.build({**config, 'end': 101}, default_args={'optimizer': optimizer})
    assert isinstance(decay, PolyLR)
    for _ in range(50):
        optimizer.step()
        decay.step()
    assert optimizer.param_groups[0]['lr'] == pytest.approx(2.679434e-5, rel=1e-6)
