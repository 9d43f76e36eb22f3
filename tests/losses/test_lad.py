"""Dual-path consistency of LAD: a number, symmetry, and which path gets which gradient."""

import math

import pytest
import torch

from castkd.losses import (
    ChannelWiseDistillation,
    CorrelationDistillation,
    DualPathConsistency,
    LogitDistillation,
    dual_path_consistency,
    pixel_cross_entropy,
)
from castkd.registry import build_model
from tests.losses.contract import LossContract
from tests.losses.map_pairs import round_waves, waves


class TestDualPathConsistency(LossContract):
    trained = ('path1_logits', 'path2_logits')
    targets = ()

    def build(self):
        return DualPathConsistency()

    def inputs(self):
        torch.manual_seed(3)
        return {name: torch.randn(2, 3, 4, 5) for name in self.trained}

    def bad_calls(self):
        return [
            (
                {'path1_logits': torch.ones(2, 3, 20)},
                r'^DualPathConsistency: path1_logits must be \(B, C, h, w\), got \(2, 3, 20\)',
            ),
            (
                {'path2_logits': torch.ones(2, 7, 4, 5)},
                '^DualPathConsistency: path1_logits has 3 channels and path2_logits 7; logits need the same classes',
            ),
            (
                {'path2_logits': torch.ones(2, 3, 8, 9)},
                r'^DualPathConsistency: path2_logits must .* \(2, 4, 5\) like path1_logits, got \(2, 8, 9\)',
            ),
        ]

    def test_gradcheck(self):
        """Each path has the gradient of its own term: the other one is a fixed target."""
        first, second = (value.double() for value in self.inputs().values())
        first.requires_grad_()
        second.requires_grad_()
        self.build()(first, second).backward()
        loss = ChannelWiseDistillation()
        for path, other in ((first, second), (second, first)):
            (expected,) = torch.autograd.grad(loss(path, other), path)
            torch.testing.assert_close(path.grad, expected)
        assert torch.autograd.gradcheck(lambda value: loss(value, second), first)


def test_value():
    first, second = waves()
    assert DualPathConsistency()(first, second).item() == pytest.approx(0.2991398992, abs=1e-9)
    assert 5 * dual_path_consistency(first, second).item() == pytest.approx(1.4956994962, abs=1e-9)


def test_symmetric_and_zero_for_equal_paths():
    first, second = waves()
    loss = DualPathConsistency(tau=1.0)
    assert loss(first, second).item() == pytest.approx(loss(second, first).item(), abs=1e-15)
    assert loss(first, first).item() == 0


def test_constant_of_a_channel_does_not_matter_and_scale_does():
    first, second = round_waves()
    loss = DualPathConsistency()
    value = loss(first, second).item()
    moved = loss(first + torch.randint(-9, 10, (2, 3, 1, 1)), second).item()
    assert moved == pytest.approx(value, rel=0, abs=1e-16)
    assert abs(loss(first + torch.randn(2, 1, 4, 5).double(), second).item() - value) > 1e-3
    assert abs(loss(2 * first, second).item() - value) > 1e-3


def test_ignored_pixels_count_here_and_not_for_the_labels():
    first, second = waves()
    labels = torch.zeros(2, 4, 5, dtype=torch.long)
    labels[:, 1] = 255
    changed = torch.where(labels[:, None] == 255, first + torch.randn_like(first), first)
    assert torch.equal(pixel_cross_entropy(changed, labels), pixel_cross_entropy(first, labels))
    loss = DualPathConsistency()
    assert (loss(changed, second) - loss(first, second)).abs() > 1e-3


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_finite_on_a_large_peaked_map_in_half_precision(half):
    maps = torch.zeros(2, 1, 2, 64, 128, dtype=half)
    maps[0, ..., 3, 4] = maps[1, ..., 9, 9] = 200
    value = DualPathConsistency()(*maps).item()
    # Both distributions are a point: the divergence is the difference of the logits, 200 / tau.
    assert value == pytest.approx(2 * 16 * 50, rel=1e-3)
    assert math.isfinite(value)


@pytest.mark.parametrize('distance', [LogitDistillation(tau=4.0), CorrelationDistillation()])
def test_other_distances(distance):
    first, second = waves()
    name = f'castkd.{type(distance).__name__}'
    options = {'tau': 4.0} if isinstance(distance, LogitDistillation) else {}
    loss = build_model(dict(type='castkd.DualPathConsistency', distance=dict(type=name, **options)))
    expected = distance(first, second) + distance(second, first)
    assert loss(first, second).item() == pytest.approx(expected.item(), abs=1e-12)
    assert type(distance).__name__ in repr(loss)
