"""Hierarchical context and patch-embedding loss: numbers by hand, and an oracle."""

import pytest
import torch

from castkd.losses import HierarchicalContextLoss, PatchEmbeddingLoss
from tests.losses.contract import LossContract


class TestHierarchicalContextContract(LossContract):
    def build(self):
        return HierarchicalContextLoss()

    def inputs(self):
        torch.manual_seed(0)
        return {'student': torch.randn(2, 3, 7, 5), 'teacher': torch.randn(2, 3, 7, 5)}

    def bad_calls(self):
        return [
            ({'student': torch.ones(2, 3, 7)}, r'student must be \(B, C, h, w\), got \(2, 3, 7\)'),
            ({'teacher': torch.ones(2, 4, 7, 5)}, 'student has 3 channels and teacher 4'),
            ({'teacher': torch.ones(2, 3, 5, 7)}, r'must have batch and grid .* got \(2, 5, 7\)'),
        ]


class TestPatchEmbeddingContract(LossContract):
    def build(self):
        return PatchEmbeddingLoss()

    def inputs(self):
        torch.manual_seed(0)
        return {'student': torch.randn(2, 7, 3), 'teacher': torch.randn(2, 7, 3)}

    def bad_calls(self):
        return [
            ({'student': torch.ones(2, 7, 4)}, r'must both be \(B, N, C\), got \(2, 7, 4\) and'),
            (
                {'student': torch.ones(2, 3), 'teacher': torch.ones(2, 3)},
                r'must both be \(B, N, C\)',
            ),
        ]


def hcl(difference):
    teacher = torch.randn(difference.shape, dtype=torch.float64)
    return HierarchicalContextLoss()(teacher + difference, teacher).item()


@pytest.mark.parametrize('size', [(1, 1), (2, 6), (4, 4), (5, 9), (16, 32)])
def test_constant_difference_survives_pooling(size):
    assert hcl(torch.zeros(2, 3, *size)) == 0
    assert hcl(torch.full((2, 3, *size), 0.3)) == pytest.approx(0.09)


@pytest.mark.parametrize(
    ('height', 'value'), [(8, 1 / 1.875), (16, 1 / 1.875), (4, 0.571429), (2, 0.666667), (1, 1.0)]
)
def test_checkerboard_lives_in_the_finest_level_alone(height, value):
    rows, columns = torch.arange(height)[:, None], torch.arange(16)
    board = 1.0 - 2.0 * ((rows + columns) % 2)
    assert hcl(board.expand(2, 3, -1, -1)) == pytest.approx(value, abs=1e-6)


def test_height_three_skips_the_first_level():
    assert hcl(torch.tensor([[1.0, -1.0]]).repeat(3, 4).expand(1, 1, -1, -1)) == pytest.approx(
        0.571429, abs=1e-6
    )


def test_ramp_over_rows():
    ramp = torch.arange(8.0)[:, None].expand(1, 1, 8, 8)
    assert hcl(ramp) == pytest.approx(16.916667, abs=1e-6)


def window_means(values, cells):
    """Average (h, w) over cells x cells windows, in plain loops."""
    height, width = values.shape
    means = torch.zeros(cells, cells, dtype=values.dtype)
    for row in range(cells):
        for column in range(cells):
            top, bottom = row * height // cells, -(-(row + 1) * height // cells)
            left, right = column * width // cells, -(-(column + 1) * width // cells)
            means[row, column] = values[top:bottom, left:right].mean()
    return means


def test_against_loops():
    student, teacher = torch.randn(2, 2, 3, 9, 7, dtype=torch.float64)
    total = (student - teacher).square().mean()
    for cells, weight in ((4, 0.5), (2, 0.25), (1, 0.125)):
        squares = [
            (window_means(ours, cells) - window_means(theirs, cells)).square().mean()
            for ours, theirs in zip(student.flatten(0, 1), teacher.flatten(0, 1), strict=True)
        ]
        total = total + weight * sum(squares) / len(squares)
    loss = HierarchicalContextLoss()(student, teacher)
    torch.testing.assert_close(loss, total / 1.875)


def test_patch_embedding_loss_is_the_mean_over_all_elements():
    student = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    assert PatchEmbeddingLoss()(student, torch.zeros(1, 3, 2)).item() == pytest.approx(91 / 6)
    assert PatchEmbeddingLoss()(student, student) == 0
