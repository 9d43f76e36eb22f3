"""Similarities between pixels, SKD and CIRKD: numbers, loops, and memory in chunks."""

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import CrossImageRelation, PairwiseSimilarity
from castkd.registry import MODELS
from tests.losses.map_pairs import PairContract, waves


class TestPairwiseSimilarity(PairContract):
    same_channels = False

    def build(self):
        return PairwiseSimilarity()


class TestCrossImageRelation(PairContract):
    same_channels = False

    def build(self):
        return CrossImageRelation(temperature=0.5, chunk_size=7)


def test_values():
    assert PairwiseSimilarity()(*waves()).item() == pytest.approx(0.0142869200, abs=1e-10)
    assert CrossImageRelation()(*waves()).item() == pytest.approx(0.0133129988, abs=1e-10)


def test_pairwise_equals_a_loop():
    student, teacher = torch.randn(2, 3, 5, 4), torch.randn(2, 6, 5, 4)
    expected = 0.0
    for image in range(2):
        cosines = []
        for feature in (student[image], teacher[image]):
            # Windows of 2 x 2 rows and columns; the last row of windows is one pixel high.
            cells = [
                feature[:, y : y + 2, x : x + 2].amax((1, 2)) for y in (0, 2, 4) for x in (0, 2)
            ]
            rows = torch.stack(cells)
            cosines.append(F.cosine_similarity(rows[:, None], rows[None], dim=2))
        expected += (cosines[0] - cosines[1]).pow(2).mean() / 2
    torch.testing.assert_close(PairwiseSimilarity()(student, teacher), expected)


def test_pairwise_without_pooling_sees_every_pixel():
    student, teacher = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2)
    rows = [F.normalize(value[0].flatten(1).T, dim=1) for value in (student, teacher)]
    expected = F.mse_loss(rows[0] @ rows[0].T, rows[1] @ rows[1].T)
    torch.testing.assert_close(PairwiseSimilarity(pool=1)(student, teacher), expected)


def relations_by_loop(student, teacher, temperature):
    total = 0.0
    for first in range(len(student)):
        for second in range(len(student)):
            logs = []
            for feature in (student, teacher):
                left, right = (
                    F.normalize(feature[image].flatten(1).T, dim=1) for image in (first, second)
                )
                logs.append((left @ right.T / temperature).log_softmax(1))
            total = total + F.kl_div(logs[0], logs[1].exp(), reduction='batchmean')
    return total / len(student) ** 2


@pytest.mark.parametrize('chunk_size', [1, 5, 36, 1000])
def test_relations_equal_a_loop_over_pairs_of_images(chunk_size):
    student = torch.randn(3, 4, 3, 4, requires_grad=True)
    teacher = torch.randn(3, 7, 3, 4)
    value = CrossImageRelation(0.3, chunk_size)(student, teacher)
    expected = relations_by_loop(student, teacher, 0.3)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, student), torch.autograd.grad(expected, student)
    )


def test_relations_notice_the_other_image():
    student, teacher = torch.randn(2, 4, 3, 4), torch.randn(2, 4, 3, 4)
    loss = CrossImageRelation()
    together = loss(student, teacher)
    alone = (loss(student[:1], teacher[:1]) + loss(student[1:], teacher[1:])) / 2
    assert not torch.isclose(together, alone, rtol=1e-3)


@pytest.mark.parametrize('loss', [PairwiseSimilarity(pool=1), CrossImageRelation()])
def test_ignores_scale_and_a_rotation_of_channels(loss):
    student, teacher = waves()
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    rotated = torch.einsum('dc,bchw->bdhw', rotation, student)
    expected = loss(student, teacher)
    torch.testing.assert_close(loss(3.7 * rotated, 0.2 * teacher), expected)
    assert not torch.isclose(loss(student + 1, teacher), expected)


@pytest.mark.parametrize(
    ('name', 'options', 'text'),
    [
        ('PairwiseSimilarity', {'pool': 0}, r'pool must be an integer in \[1, inf\)'),
        ('CrossImageRelation', {'temperature': -1}, 'temperature must be a number'),
        ('CrossImageRelation', {'chunk_size': 2.5}, 'chunk_size must be an integer'),
    ],
)
def test_builds_from_a_config_that_is_checked(name, options, text):
    assert repr(MODELS.build({'type': f'castkd.{name}'})).startswith(name)
    with pytest.raises(ConfigError, match=f'{name}: {text}'):
        MODELS.build({'type': f'castkd.{name}', **options})
