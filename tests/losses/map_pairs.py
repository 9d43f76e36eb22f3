"""What losses on a student's and a teacher's map have in common in tests."""

import pytest
import torch

from tests.losses.contract import LossContract


def waves(shape=(2, 3, 4, 5)):
    """Return sin(0.1 k) and cos(0.1 k) over the row-major index k, in double precision."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64).view(shape) / 10
    return index.sin(), index.cos()


def round_waves():
    """Return :func:`waves` with 20 binary digits behind the point: to add a small whole number rounds nothing."""
    return tuple((value * 2**20).round() / 2**20 for value in waves())


class PairContract(LossContract):
    """Promises of a loss on two maps; a subclass named ``Test...`` says how to build it.

    Attributes:
        same_channels: Whether both maps need the same number of channels.
    """

    same_channels = True

    def extra(self):
        """Return what the loss gets beside the two maps of (2, 3, 4, 5)."""
        return {}

    def inputs(self):
        torch.manual_seed(3)
        channels = 3 if self.same_channels else 6
        maps = {'student': torch.randn(2, 3, 4, 5), 'teacher': torch.randn(2, channels, 4, 5)}
        return {**maps, **self.extra()}

    def bad_calls(self):
        calls = [
            (
                {'student': torch.ones(2, 3, 20)},
                r'student must be \(B, C, h, w\), got \(2, 3, 20\)',
            ),
            ({'teacher': torch.ones(3, 4, 5)}, r'teacher must be \(B, C, h, w\), got \(3, 4, 5\)'),
            (
                {'teacher': torch.ones(1, 3, 4, 5)},
                r'grid \(2, 4, 5\) like student, got \(1, 4, 5\)',
            ),
            ({'teacher': torch.ones(2, 3, 8, 9)}, r'\(2, 8, 9\); tap maps of the same stride'),
        ]
        if self.same_channels:
            text = 'student has 3 channels and teacher 7; logits need the same classes'
            calls.append(({'teacher': torch.ones(2, 7, 4, 5)}, text))
        return calls

    def test_zero_for_equal_maps(self):
        inputs = self.inputs()
        inputs['teacher'] = inputs['student'] = inputs['student'].double()
        assert self.build()(**inputs).item() == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize('value', [0.0, 2.0])
    def test_constant_maps_have_a_finite_gradient(self, value):
        inputs = self.inputs()
        inputs['student'] = torch.full((2, 3, 4, 5), value, requires_grad=True)
        loss = self.build()(**inputs)
        loss.backward()
        assert loss.isfinite()
        assert inputs['student'].grad.isfinite().all()

    @pytest.mark.parametrize('grid', [(1, 1), (1, 7), (7, 3)])
    def test_grids_of_any_size(self, grid):
        channels = 3 if self.same_channels else 6
        student = torch.randn(1, 3, *grid, requires_grad=True)
        extra = {name: value[1:, :1, :1].expand(1, *grid) for name, value in self.extra().items()}
        loss = self.build()(student=student, teacher=torch.randn(1, channels, *grid), **extra)
        loss.backward()
        assert loss.isfinite()
        assert student.grad.isfinite().all()
