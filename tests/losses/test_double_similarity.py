"""DSD, its pixel-wise and its category-wise term: numbers and loops."""

import pytest
import torch

from castkd.errors import ConfigError
from castkd.losses import CategorySimilarity, PixelSimilarity
from castkd.registry import MODELS
from tests.losses.map_pairs import PairContract, waves


class OfThreeMaps(PixelSimilarity):
    """Makes three maps of one, so that what holds for losses on two maps can be asked."""

    def forward(self, student, teacher):
        return super().forward(three_maps(student), three_maps(teacher))


def three_maps(feature):
    return [feature, 2 * feature[:, :2], feature.roll(1, dims=-1)]


class TestPixelSimilarity(PairContract):
    same_channels = False

    def build(self):
        return OfThreeMaps()


class TestCategorySimilarity(PairContract):
    def build(self):
        return CategorySimilarity(tau=0.5)


def lists():
    student, teacher = waves()
    return [student, student**2 + 0.1, student.exp()], [teacher, teacher**2 + 0.1, teacher.exp()]


def test_values():
    assert PixelSimilarity()(*lists()).item() == pytest.approx(0.0439518552, abs=1e-10)
    assert CategorySimilarity()(*waves()).item() == pytest.approx(2.6207666e-06, abs=1e-13)


def test_pixel_similarity_equals_a_loop():
    student, teacher = lists()
    total = 0.0
    for image in range(2):
        moves = []
        for maps in (student, teacher):
            attention = [value[image].pow(2).mean(0).flatten() for value in maps]
            attention = [value / value.norm() for value in attention]
            moves.append(
                [
                    attention[0] - attention[1],
                    attention[0] - attention[2],
                    attention[1] - attention[2],
                ]
            )
        for own, wanted in zip(*moves, strict=True):
            total += (own / own.norm() - wanted / wanted.norm()).pow(2).sum() / (3 * 2 * 20)
    torch.testing.assert_close(PixelSimilarity()(student, teacher), total)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_map_that_is_twice_in_the_list_has_the_gradient_of_the_other_pairs(dtype):
    """The list of a student without auxiliary head, whose teacher has one."""
    logits, feature = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4, 5)
    teacher = [torch.randn(2, channels, 4, 5).to(dtype) for channels in (3, 8, 3)]
    taps = [value.to(dtype).requires_grad_() for value in (logits, feature)]
    loss = PixelSimilarity()([taps[0], taps[1], taps[0]], teacher)
    found = torch.autograd.grad(loss, taps)
    pairs = [PixelSimilarity()(taps, teacher[:2]), PixelSimilarity()(taps[::-1], teacher[1:])]
    expected = torch.autograd.grad(sum(pairs) / 3, taps)
    for value, wanted in zip(found, expected, strict=True):
        assert wanted.any()
        torch.testing.assert_close(value, wanted)
    # What no gradient can change is in the value all the same: the teacher's own move, of length 1.
    assert (loss - sum(pairs) / 3).item() == pytest.approx(1 / (3 * 20), rel=1e-3)


def test_category_similarity_equals_a_loop():
    student, teacher = torch.randn(2, 4, 4, 6), torch.randn(2, 4, 4, 6)
    total = 0.0
    for image in range(2):
        overlaps = []
        for logits in (student[image], teacher[image]):
            cells = logits.reshape(4, 2, 2, 3, 2).mean((2, 4)).flatten(1)
            places = (cells / 0.5).softmax(1)
            overlaps.append((places[:, None] * places[None]).sum(2))
        total += (overlaps[0] - overlaps[1]).pow(2).mean() / 2
    torch.testing.assert_close(CategorySimilarity(tau=0.5)(student, teacher), total)


def test_category_similarity_pools_what_is_left_at_the_edge():
    student, teacher = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    overlaps = []
    for logits in (student[0], teacher[0]):
        cells = torch.stack(
            [logits[:, y : y + 2, x : x + 2].mean((1, 2)) for y in (0, 2) for x in (0, 2)], dim=1
        )
        places = (cells / 4).softmax(1)
        overlaps.append(places @ places.T)
    expected = (overlaps[0] - overlaps[1]).pow(2).mean()
    torch.testing.assert_close(CategorySimilarity()(student, teacher), expected, rtol=1e-4, atol=0)


def test_category_similarity_ignores_an_offset_of_a_class():
    student, teacher = waves()
    shifted = student + torch.tensor([1.0, -2.0, 5.0]).view(1, 3, 1, 1)
    expected = CategorySimilarity()(student, teacher)
    torch.testing.assert_close(CategorySimilarity()(shifted, teacher), expected)
    assert not torch.isclose(CategorySimilarity()(student.flip(1), teacher), expected, rtol=1e-2)


def test_wrong_lists_are_named():
    student, teacher = lists()
    loss = MODELS.build({'type': 'castkd.PixelSimilarity'})
    for given in ((student[:1], teacher[:1]), (student, teacher[:2])):
        with pytest.raises(ConfigError, match='lists of equal length of at least 2, got'):
            loss(*given)
    small = [value[:, :, :2] for value in (student[2], teacher[2])]
    with pytest.raises(ConfigError, match=r'must have one grid, got \[\(2, 5\), \(4, 5\)\]'):
        loss([*student[:2], small[0]], [*teacher[:2], small[1]])


@pytest.mark.parametrize(
    ('options', 'text'), [({'tau': 0}, 'tau must be a number'), ({'pool': 0}, 'pool must be')]
)
def test_wrong_option_is_named(options, text):
    with pytest.raises(ConfigError, match=f'CategorySimilarity: {text}'):
        MODELS.build({'type': 'castkd.CategorySimilarity', **options})
