"""The shared runtime and schedule build what they promise."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import PolyLR, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import find_latest_checkpoint
from torch import nn

from castkd.registry import HOOKS, build_model
from tests.builders import tiny_mask2former
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
        self.backbone = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.LayerNorm(1))
        self.backbone.cls_token = nn.Parameter(torch.ones(1))
        self.head = nn.Sequential(nn.Conv2d(1, 1, 1), nn.GroupNorm(1, 1))
        self.query_embed = nn.Embedding(2, 2)


def rates_and_decays(model, optim_wrapper):
    """Return learning rate and weight decay by the parameter's name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    wrapper = build_optim_wrapper(model, optim_wrapper)
    assert wrapper.clip_grad_kwargs == {'max_norm': 0.01, 'norm_type': 2}
    return {
        names[parameter]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    }


def test_rates_and_decay_follow_the_paper(schedule):
    found = rates_and_decays(Network(), schedule.optim_wrapper)
    expected = {
        'backbone.0': (5e-6, 0.1),
        'backbone.1': (5e-6, 0.0),
        'backbone.2': (5e-6, 0.0),
        'backbone.cls_token': (5e-6, 0.0),
        'head.0': (5e-5, 0.1),
        'head.1': (5e-5, 0.0),
        'query_embed': (5e-5, 0.0),
    }
    assert len(found) == 12
    for name, values in found.items():
        (wanted,) = [pair for key, pair in expected.items() if name.startswith(key)]
        assert values == pytest.approx(wanted), name


def test_no_norm_of_a_student_decays(schedule):
    model = nn.Module()
    model.student = build_model(tiny_mask2former())
    found = rates_and_decays(model, schedule.optim_wrapper)
    norms = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm))
    ]
    assert 'student.backbone.layer2.0.downsample.1' in norms
    for name, (rate, decay) in found.items():
        slow = name.startswith('student.backbone.')
        assert rate == pytest.approx(5e-6 if slow else 5e-5), name
        owner = name.rpartition('.')[0]
        still = owner in norms or owner.endswith(('query_embed', 'query_feat', 'level_embed'))
        assert decay == pytest.approx(0.0 if still else 0.1), name


def test_norms_decay_where_the_config_leaves_it_open(schedule):
    wrapper = copy.deepcopy(schedule.optim_wrapper)
    del wrapper.paramwise_cfg.norm_decay_mult
    found = rates_and_decays(Network(), wrapper)
    assert found['backbone.1.weight'] == pytest.approx((5e-6, 0.1))


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
