"""The debiasing weights and the draws: what the method promises of them."""

import pytest
import torch

from castkd.errors import ConfigError
from castkd.losses import debias_weights
from castkd.losses.sampling import (
    cue_vectors,
    dissimilarity,
    draw_negatives,
    pixel_distributions,
    resize_logits,
)

# Three pixels in a row, two queries, two classes and "no object".
MASKS = torch.tensor([[4.0, 0.0, -4.0], [-4.0, 0.0, 4.0]]).view(1, 2, 1, 3)
CLASSES = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]).view(1, 2, 3)


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-6, rtol=0)


def random_logits(images=2, queries=5, classes=4):
    return 3 * torch.randn(images, queries, 6, 8), 2 * torch.randn(images, queries, classes + 1)


def test_t11_pixel_distributions():
    over_queries, over_classes = pixel_distributions(MASKS, CLASSES)
    close(over_queries[0].T, [[0.999665, 0.5, 0.000335], [0.000335, 0.5, 0.999665]])
    close(
        over_classes[0],
        [
            [0.786758, 0.106735, 0.106507],
            [0.446747, 0.446747, 0.106507],
            [0.106735, 0.786758, 0.106507],
        ],
    )


@pytest.mark.parametrize(
    ('cue', 'near', 'far'),
    [
        ('fused', 0.255130, 0.890336),
        ('mask', 0.292656, 0.999329),
        ('class', 0.200190, 0.720607),
        ('uniform', 1.0, 1.0),
    ],
)
def test_t11_weights(cue, near, far):
    weights = debias_weights(MASKS, CLASSES, (1, 3), cue)
    assert weights.shape == (1, 3, 1, 3)
    own = 1.0 if cue == 'uniform' else 0.0
    close(weights[0, :, 0], [[own, near, far], [near, own, near], [far, near, own]])


def test_t11_draw_probabilities_with_a_duplicate():
    masks = torch.cat([MASKS, MASKS[..., :1]], dim=3)
    weights = debias_weights(masks, CLASSES, (1, 4))[0, :1, 0].clone()
    weights[0, 0] = 0
    probabilities = weights / weights.sum()
    close(probabilities[:, [3, 1, 2]], [[0.0, 0.222730, 0.777270]])
    rows = weights.expand(20000, -1)
    index, drawn = draw_negatives(rows, 1)
    frequency = index[:, 0].bincount(minlength=4) / len(rows)
    assert drawn.all()
    assert frequency[0] == frequency[3] == 0
    torch.testing.assert_close(frequency, probabilities[0], atol=0.012, rtol=0)


@pytest.mark.parametrize('void_slot', [False, True])
@pytest.mark.parametrize('cue', ['fused', 'class', 'mask'])
def test_t12_sums_and_symmetry(cue, void_slot):
    masks, classes = random_logits()
    over_queries, over_classes = pixel_distributions(masks, classes, void_slot=void_slot)
    torch.testing.assert_close(over_queries.sum(2), torch.ones(2, 48))
    torch.testing.assert_close(over_classes.sum(2), torch.ones(2, 48))
    weights = debias_weights(masks, classes, (3, 4), cue, void_slot=void_slot).view(24, 24)
    torch.testing.assert_close(weights, weights.T)
    assert weights.min() == 0
    assert weights.max() <= 1
    assert not weights.diagonal().any()


def test_t13_identical_uncertain_pixels_weigh_nothing():
    # Code that leaves the probabilities as they are would give 1 - 1/9 here.
    weights = debias_weights(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 9), (2, 2), 'class')
    assert not weights.any()


def test_t08_permuting_queries():
    masks, classes = random_logits()
    order = torch.tensor([3, 0, 4, 2, 1])
    plain = {cue: debias_weights(masks, classes, (3, 4), cue) for cue in ('fused', 'mask', 'class')}
    for cue, weights in plain.items():
        permuted = debias_weights(masks[:, order], classes[:, order], (3, 4), cue)
        torch.testing.assert_close(permuted, weights)
    masks[1], classes[1] = masks[1, order], classes[1, order]
    for cue, weights in plain.items():
        permuted = debias_weights(masks, classes, (3, 4), cue)
        for image in range(2):
            torch.testing.assert_close(permuted[image, :, image], weights[image, :, image])
        across_unchanged = torch.allclose(permuted[0, :, 1], weights[0, :, 1], atol=1e-4)
        assert across_unchanged == (cue == 'class')


def test_t14_inclusion_frequencies():
    weights = torch.tensor([0.5, 0.3, 0.2, 0.0]).expand(100_000, 4)
    generator = torch.Generator().manual_seed(1)
    index, drawn = draw_negatives(weights, 2, generator)
    assert drawn.all()
    assert (index[:, 0] != index[:, 1]).all()
    frequency = index.flatten().bincount(minlength=4) / len(weights)
    expected = torch.tensor([0.839286, 0.675, 0.485714, 0.0])
    torch.testing.assert_close(frequency, expected, atol=0.005, rtol=0)
    single = draw_negatives(weights, 1, generator)[0][:, 0].bincount(minlength=4) / len(weights)
    torch.testing.assert_close(single, weights[0], atol=0.005, rtol=0)


def test_t14_no_candidate_repeats_and_none_without_weight_is_drawn():
    weights = torch.rand(64, 40) * (torch.rand(64, 40) > 0.7)
    index, drawn = draw_negatives(weights, 25)
    for row, chosen, took_place in zip(weights, index, drawn, strict=True):
        taken = chosen[took_place]
        assert len(taken.unique()) == len(taken) == min(25, int((row > 0).sum()))
        assert (row[taken] > 0).all()


def test_t15_seed_decides_the_draws():
    weights = torch.rand(8, 30)
    first, second, other = (
        draw_negatives(weights, 5, torch.Generator().manual_seed(seed))[0] for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_t15_no_gradient():
    masks, classes = random_logits()
    plain = debias_weights(masks, classes, (3, 4))
    tracked = debias_weights(masks.requires_grad_(), classes.requires_grad_(), (3, 4))
    assert not tracked.requires_grad
    assert torch.equal(plain, tracked)


def test_t16_more_draws_than_candidates():
    index, drawn = draw_negatives(torch.tensor([[0.0, 0.2, 0.9], [0.0, 0.0, 0.0]]), 10)
    assert index.shape == (2, 3)
    assert drawn.sum(1).tolist() == [2, 0]


def test_logits_are_resized_before_the_softmax():
    masks, classes = random_logits()
    resized = torch.nn.functional.interpolate(masks, (3, 5), mode='bilinear', align_corners=False)
    torch.testing.assert_close(resize_logits(masks, (3, 5)), resized)
    torch.testing.assert_close(
        debias_weights(masks, classes, (3, 5)), debias_weights(resized, classes, (3, 5))
    )


def test_mask_temperature_sharpens():
    masks, classes = random_logits()
    sharp = pixel_distributions(masks, classes, mask_temperature=0.5)
    for actual, expected in zip(sharp, pixel_distributions(2 * masks, classes), strict=True):
        torch.testing.assert_close(actual, expected)


def test_void_slot_takes_pixels_outside_every_mask():
    masks = torch.tensor([[-20.0, 20.0], [-20.0, -20.0]]).view(1, 2, 1, 2)
    over_queries, over_classes = pixel_distributions(masks, CLASSES, void_slot=True)
    close(over_queries[0], [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    close(over_classes[0, 0], [0.0, 0.0, 1.0])


def test_uniform_cue_weighs_every_pair_alike():
    vectors = cue_vectors(*pixel_distributions(*random_logits()), 'uniform')
    assert dissimilarity(vectors[0], vectors[1]).eq(1).all()


@pytest.mark.parametrize('half', [torch.bfloat16, torch.float16], ids=['bf16', 'fp16'])
def test_half_precision_logits_are_widened(half):
    masks, classes = (logits.to(half) for logits in random_logits())
    weights = debias_weights(masks, classes, (3, 4))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights, debias_weights(masks.float(), classes.float(), (3, 4)))


@pytest.mark.parametrize(
    ('masks', 'classes', 'options', 'text'),
    [
        ((5, 4, 4), (2, 5, 3), {}, r'mask_logits must be \(B, K, Hm, Wm\), got \(5, 4, 4\)'),
        ((2, 5, 4, 4), (2, 4, 3), {}, r'cls_logits must be \(2, 5, C \+ 1\) .* got \(2, 4, 3\)'),
        ((2, 5, 4, 4), (5, 3), {}, 'cls_logits must be'),
        ((2, 5, 4, 4), (2, 5, 3), {'cue': 'masks'}, "cue must be one of .* did you mean 'mask'"),
        ((2, 5, 4, 4), (2, 5, 3), {'mask_temperature': 0}, 'mask_temperature must be'),
    ],
)
def test_wrong_input_is_named(masks, classes, options, text):
    with pytest.raises(ConfigError, match=text):
        debias_weights(torch.randn(masks), torch.randn(classes), (2, 2), **options)
