"""DIST: numbers, torch.corrcoef as the plain form, and what a correlation forgives."""

import pytest
import torch

from castkd.errors import ConfigError
from castkd.losses import CorrelationDistillation
from castkd.registry import MODELS
from tests.losses.map_pairs import PairContract, waves


class TestCorrelationDistillation(PairContract):
    def build(self):
        return CorrelationDistillation()


def test_value():
    """Pearson's own, from a plain form; the released function adds 1e-8 to its divisors and gives 1.8353015934."""
    student, teacher = waves()
    loss = CorrelationDistillation()(student, teacher).item()
    assert loss == pytest.approx(1.8353015633, rel=1e-10)
    released = 0.0
    for dim in (0, 1):
        first, second = (
            value.softmax(1).transpose(0, 1).flatten(1) for value in (student, teacher)
        )
        first, second = (value - value.mean(dim, keepdim=True) for value in (first, second))
        divisor = first.norm(dim=dim) * second.norm(dim=dim) + 1e-8
        released += (1 - (first * second).sum(dim) / divisor).mean().item()
    assert released == pytest.approx(1.8353015934, rel=1e-10)
    assert loss == pytest.approx(released, abs=5e-8)


@pytest.mark.parametrize(('beta', 'gamma'), [(1.0, 0.0), (0.0, 1.0), (2.0, 0.5)])
def test_equals_torch_corrcoef(beta, gamma):
    student, teacher = (torch.randn(2, 4, 2, 3, dtype=torch.float64) for _ in range(2))
    rows = [value.softmax(1).permute(0, 2, 3, 1).reshape(12, 4) for value in (student, teacher)]
    pixels = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*rows, strict=True)]
    columns = [value.T for value in rows]
    classes = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*columns, strict=True)]
    expected = beta * (1 - sum(pixels) / 12) + gamma * (1 - sum(classes) / 4)
    value = CorrelationDistillation(beta, gamma)(student, teacher)
    torch.testing.assert_close(value, expected, atol=1e-7, rtol=0)


def test_forgives_a_scale_that_equality_would_not():
    teacher = torch.tensor([[0.6, 0.3, 0.1]]).T.view(1, 3, 1, 1)
    # Half of the teacher's probability, the other half spread evenly: the same order, less sure.
    student = 0.5 * teacher + 0.5 / 3
    loss = CorrelationDistillation(gamma=0.0)(student.log(), teacher.log())
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize('name', ['beta', 'gamma'])
def test_builds_from_a_config_that_is_checked(name):
    with pytest.raises(ConfigError, match=f'CorrelationDistillation: {name} must be a number'):
        MODELS.build({'type': 'castkd.CorrelationDistillation', name: -1})
