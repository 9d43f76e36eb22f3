"""Mixed precision without a GPU."""

import pytest
import torch
from mmcv.ops import RoIAlign
from mmengine.device import get_device
from torch import nn

from castkd.engine.optim import mixed_precision
from castkd.errors import ConfigError
from castkd.registry import OPTIM_WRAPPERS
from tests.segmentation import make_distiller, run_step, semantic_batch


def wrapper_of(network):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    return OPTIM_WRAPPERS.build(
        dict(type='castkd.Bfloat16OptimWrapper', optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    )


def test_forward_runs_in_bfloat16_and_weights_stay_in_float32():
    network = nn.Linear(8, 4)
    before = network.weight.clone()
    wrapper = wrapper_of(network)
    with wrapper.optim_context(network):
        output = network(torch.ones(2, 8))
        assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().square().mean())
    assert network.weight.dtype == torch.float32
    assert not torch.equal(network.weight, before)


def test_a_distiller_trains_in_it():
    """Losses are near those of float32, and the student learns."""
    distiller, batch = (
        make_distiller(objectives=dict(sup=dict(type='castkd.Supervised'))),
        semantic_batch(),
    )
    exact = run_step(distiller, batch)
    wrapper = wrapper_of(distiller)
    before = {key: value.clone() for key, value in distiller.student.state_dict().items()}
    with wrapper.optim_context(distiller):
        losses = run_step(distiller, batch)
    total, _ = distiller.parse_losses(losses)
    assert total.item() == pytest.approx(distiller.parse_losses(exact)[0].item(), rel=0.02)
    wrapper.update_params(total)
    after = distiller.student.state_dict()
    assert any(not torch.equal(after[key], before[key]) for key in before)
    assert all(torch.isfinite(value).all() for value in after.values())


def test_an_operator_without_bfloat16_is_told_what_to_do():
    network, rois = nn.Conv2d(3, 4, 3), torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
    with (
        pytest.raises(ConfigError, match=r'no bfloat16 form.*; train without --amp'),
        wrapper_of(network).optim_context(network),
    ):
        RoIAlign(2, spatial_scale=1.0)(network(torch.ones(1, 3, 8, 8)), rois.bfloat16())


def test_values_that_numpy_cannot_take_are_told_the_same_way():
    network = nn.Linear(8, 4)
    with (
        pytest.raises(ConfigError, match='train without --amp'),
        wrapper_of(network).optim_context(network),
    ):
        network(torch.ones(2, 8)).detach().numpy()


def test_other_errors_pass():
    network = nn.Linear(8, 4)
    with (
        pytest.raises(RuntimeError, match='cannot be multiplied') as caught,
        wrapper_of(network).optim_context(network),
    ):
        network(torch.ones(2, 3))
    assert not isinstance(caught.value, ConfigError)


def test_without_a_gpu_amp_means_bfloat16():
    expected = 'castkd.Bfloat16OptimWrapper' if get_device() == 'cpu' else 'AmpOptimWrapper'
    assert mixed_precision()['type'] == expected
