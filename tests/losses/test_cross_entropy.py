"""Cross-entropy of pixels: hand-computed numbers, the rule of hard pixels, and crops without labels."""

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import OHEMCrossEntropy, ohem_cross_entropy, pixel_cross_entropy
from castkd.registry import build_model
from tests.builders import tiny_segmentor
from tests.losses.contract import LossContract


def two_class_case():
    """Class 0 minus class 1 of the logits; every target is class 0 except an ignored last pixel."""
    difference = torch.tensor([[0.0, 1.0, 2.0], [-1.0, 3.0, 4.0]])
    logits = torch.stack([difference, torch.zeros_like(difference)])[None]
    target = torch.zeros(1, 2, 3, dtype=torch.long)
    target[0, 1, 2] = 255
    return logits, target


class TestContract(LossContract):
    trained = ('logits',)
    targets = ()

    def build(self):
        return OHEMCrossEntropy(min_kept=5)

    def inputs(self):
        torch.manual_seed(1)
        target = torch.randint(0, 3, (2, 4, 5))
        target[0, 0] = 255
        return {'logits': torch.randn(2, 3, 4, 5), 'target': target}

    def bad_calls(self):
        return [
            ({'logits': torch.ones(2, 3, 4)}, r'logits must be \(B, C, H, W\), got \(2, 3, 4\)'),
            ({'target': torch.ones(2, 5, 4)}, r'target must be \(2, 4, 5\) .* got \(2, 5, 4\)'),
            ({'weight': torch.ones(2, 4, 5)}, 'remove the sampler'),
        ]


@pytest.mark.parametrize(
    ('min_kept', 'expected'), [(1, 1.0032), (3, 0.7732), (4, 0.6116), (5, 0.4990), (6, 0.4990)]
)
def test_hard_pixels_by_hand(device, dtype, min_kept, expected):
    logits, target = two_class_case()
    loss = ohem_cross_entropy(logits.to(device, dtype), target.to(device), min_kept=min_kept)
    assert loss.item() == pytest.approx(expected, abs=5e-5)


def test_least_number_grows_with_the_batch():
    logits, target = two_class_case()
    twice = ohem_cross_entropy(logits.repeat(2, 1, 1, 1), target.repeat(2, 1, 1), min_kept=3)
    torch.testing.assert_close(twice, ohem_cross_entropy(logits, target, min_kept=3))


def test_a_batch_twice_changes_nothing():
    logits, target = two_class_case()
    twice = pixel_cross_entropy(logits.repeat(2, 1, 1, 1), target.repeat(2, 1, 1))
    torch.testing.assert_close(twice, pixel_cross_entropy(logits, target))


def test_hard_pixels_against_a_loop():
    torch.manual_seed(3)
    logits, target = 3 * torch.randn(2, 4, 6, 5), torch.randint(0, 4, (2, 6, 5))
    target[1, :3] = 255
    pixels = []
    for image in range(2):
        for row in range(6):
            for column in range(5):
                label = target[image, row, column].item()
                if label != 255:
                    probability = logits[image, :, row, column].softmax(0)[label].item()
                    pixels.append((probability, -torch.tensor(probability).log().item()))
    pixels.sort()
    limit = max(0.3, pixels[2 * 12 - 1][0])
    kept = [loss for probability, loss in pixels if probability <= limit]
    assert 24 <= len(kept) < len(pixels)
    loss = ohem_cross_entropy(logits, target, threshold=0.3, min_kept=12)
    assert loss.item() == pytest.approx(sum(kept) / len(kept), rel=1e-5)


def test_more_than_labelled_means_the_plain_mean():
    logits, target = two_class_case()
    plain = F.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(ohem_cross_entropy(logits, target, min_kept=10_000), plain)
    torch.testing.assert_close(pixel_cross_entropy(logits, target), plain)


@pytest.mark.parametrize('loss', [pixel_cross_entropy, ohem_cross_entropy])
def test_a_crop_without_labels_gives_zero_with_a_graph(device, loss):
    logits = torch.randn(2, 3, 4, 5, device=device, requires_grad=True)
    value = loss(logits, torch.full((2, 4, 5), 255, device=device))
    value.backward()
    assert value == 0
    assert not logits.grad.any()


@pytest.mark.parametrize('loss', [pixel_cross_entropy, ohem_cross_entropy])
def test_an_ignored_pixel_has_no_gradient(loss):
    logits, target = two_class_case()
    logits.requires_grad_()
    loss(logits, target).backward()
    assert not logits.grad[0, :, 1, 2].any()
    assert logits.grad[0, :, 0, 0].any()


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(threshold=0.0), 'threshold must be a number in'),
        (dict(threshold=1.5), 'threshold must be a number in'),
        (dict(min_kept=0), 'min_kept must be an integer in'),
        (dict(loss_weight=-1.0), 'loss_weight must be a number in'),
        (dict(loss_name='ohem'), "loss_name must contain 'loss', got 'ohem'"),
    ],
)
def test_wrong_options_are_named(options, text):
    with pytest.raises(ConfigError, match=text):
        OHEMCrossEntropy(**options)


def test_a_decode_head_takes_it():
    config = tiny_segmentor()
    config['decode_head']['loss_decode'] = dict(
        type='castkd.OHEMCrossEntropy', min_kept=7, loss_weight=0.5
    )
    head = build_model(config).decode_head
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss = head.loss_decode(logits, target, weight=None, ignore_index=255)
    torch.testing.assert_close(loss, 0.5 * ohem_cross_entropy(logits, target, min_kept=7))
