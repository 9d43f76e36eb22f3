"""What the options of the pixel-wise contrastive loss change, what it measures and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import InstancePixelContrast, instance_pixel_contrast
from castkd.registry import MODELS
from castkd.schedules import Linear
from tests.losses.pixel_cases import ALL, oracle, random_case, single_anchor


def test_invalid_pixels_have_no_influence():
    inputs = random_case()
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[:, :, 2:] = False
    loss = InstancePixelContrast(ALL)
    masks = F.interpolate(inputs['mask_logits'], (3, 4), mode='bilinear', align_corners=False)
    inputs['mask_logits'] = masks
    expected = loss(
        **{**{n: v[..., :2] for n, v in inputs.items()}, 'cls_logits': inputs['cls_logits']}
    )
    inputs['anchor'][..., 2:] = 1e4
    inputs['positive'][..., 2:] = -1e4
    inputs['anchor'].requires_grad_()
    value = loss(**inputs, valid=valid)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert not inputs['anchor'].grad[..., 2:].any()
    assert inputs['anchor'].grad[..., :2].all()


def test_known_instances_are_no_negatives():
    inputs = random_case(images=2, size=(1, 4))
    ids = torch.tensor([[[0, 0, 0, 0]], [[0, 0, -1, -1]]])
    loss = InstancePixelContrast(ALL, cue='uniform')
    loss(**inputs, instance_ids=ids)
    assert loss.last_statistics['false_negative_rate'] == 0
    cross = InstancePixelContrast(ALL, cue='uniform', pool='cross_image')
    # The first image is one instance, so its anchors see the other image only; the same id there is
    # another instance.
    whole = torch.stack([torch.zeros(1, 4), torch.ones(1, 4)]).long()
    torch.testing.assert_close(
        loss(**inputs, instance_ids=torch.zeros_like(whole)), cross(**inputs)
    )
    torch.testing.assert_close(loss(**inputs, instance_ids=whole), cross(**inputs))
    torch.testing.assert_close(loss(**inputs, instance_ids=-whole - 1), loss(**inputs))


@pytest.mark.parametrize('chunk_size', [3, 1024])
def test_what_the_cue_alone_would_draw_is_measured_where_it_is_forbidden(chunk_size):
    inputs = random_case(images=2, size=(1, 4))
    ids = torch.tensor([[[0, 0, 0, 0]], [[0, 0, -1, -1]]])
    loss = InstancePixelContrast(2, cue='uniform', chunk_size=chunk_size)
    loss(**inputs, instance_ids=ids)
    # Of 7 other pixels, 3 belong to the instance for four anchors, 1 for two.
    rate = loss.last_statistics['cue_false_negative_rate']
    assert rate.item() == pytest.approx((4 * 3 + 2 * 1) / 7 / 6)
    # A cue that knows the instances draws none of them.
    masks = torch.full((1, 2, 1, 4), -9.0)
    masks[:, 0, :, :2] = masks[:, 1, :, 2:] = 9.0
    one = {name: value[:1] for name, value in inputs.items()}
    one.update(mask_logits=masks, cls_logits=torch.randn(1, 2, 3))
    loss = InstancePixelContrast(2, cue='mask', chunk_size=chunk_size)
    loss(**one, instance_ids=torch.tensor([[[0, 0, 1, 1]]]))
    assert loss.last_statistics['cue_false_negative_rate'].item() == pytest.approx(0, abs=1e-4)
    # Nothing is forbidden, or nothing could be: there is no such rate.
    for options in ({'forbid_same_instance': False}, {'pool': 'cross_image'}):
        loss = InstancePixelContrast(2, **options)
        loss(**inputs, instance_ids=ids)
        assert 'cue_false_negative_rate' not in loss.last_statistics


def test_ids_that_only_measure():
    inputs = random_case(images=2, size=(1, 4))
    ids = torch.tensor([[[5, 5, 5, -1]], [[5, 2, -3, -3]]])
    loss = InstancePixelContrast(ALL, cue='uniform', forbid_same_instance=False)
    torch.testing.assert_close(loss(**inputs, instance_ids=ids), loss(**inputs))
    loss(**inputs, instance_ids=ids)
    # Five anchors lie on an instance, each has seven candidates; three of them have two of their own.
    assert loss.last_statistics['false_negative_rate'].item() == pytest.approx(6 / 35)


def test_false_negative_rate_follows_the_cue():
    """On two clear instances the mask cue avoids the own instance, the uniform cue does not."""
    masks = torch.full((1, 2, 4, 8), -4.0)
    masks[:, 0, :, :4] = masks[:, 1, :, 4:] = 4.0
    ids = torch.zeros(1, 4, 8, dtype=torch.long)
    ids[..., 4:] = 1
    rates = {}
    for cue in ('mask', 'class', 'uniform'):
        loss = InstancePixelContrast(10, cue=cue, forbid_same_instance=False)
        features = torch.randn(1, 6, 4, 8)
        # The second query is of another class, but not surely.
        classes = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        loss(features, features, masks, classes, instance_ids=ids)
        rates[cue] = loss.last_statistics['false_negative_rate'].item()
    assert rates['mask'] == rates['class'] == 0
    assert rates['uniform'] == pytest.approx(15 / 31, abs=0.08)


def test_statistics():
    inputs = random_case(images=1, size=(1, 3))
    loss = InstancePixelContrast(ALL, 0.3, cue='uniform', hinge=0.2)
    value = loss(**inputs)
    z, target = (F.normalize(inputs[name][0, :, 0].T, dim=1) for name in ('anchor', 'positive'))
    statistics = loss.last_statistics
    positive = (z * target).sum(1).mean()
    negative = (z @ z.T)[~torch.eye(3, dtype=torch.bool)].mean()
    torch.testing.assert_close(statistics['pos_mean'], positive)
    torch.testing.assert_close(statistics['neg_mean'], negative)
    torch.testing.assert_close(statistics['separation'], positive - negative)
    assert statistics['zero_weight_share'] == 0
    assert 'false_negative_rate' not in statistics
    assert 0 < statistics['mask_entropy'] < math.log(5)
    assert not any(number.requires_grad for number in statistics.values())
    loss(**{**inputs, 'mask_logits': torch.zeros(1, 5, 2, 2)})
    assert loss.last_statistics['mask_entropy'].item() == pytest.approx(math.log(5))
    assert value == instance_pixel_contrast(
        **inputs, num_negatives=ALL, temperature=0.3, cue='uniform', hinge=0.2
    )


def test_anchors_without_weight_are_left_out_of_the_mean():
    # Pixels 0 to 2 look alike and 3 does not; 0 may not meet 3, so nothing is left for it.
    masks = torch.tensor([[9.0, 9.0, 9.0, -9.0]]).view(1, 1, 1, 4)
    masks = torch.cat([masks, -masks], dim=1)
    classes = torch.tensor([[[3.0, 0.0], [0.0, 3.0]]])
    inputs = {
        'anchor': torch.randn(1, 5, 1, 4),
        'positive': torch.randn(1, 5, 1, 4),
        'mask_logits': masks,
        'cls_logits': classes,
    }
    loss = InstancePixelContrast(ALL, 0.5, cue='mask')
    ids = torch.tensor([[[0, -1, -1, 0]]])
    value = loss(**inputs, instance_ids=ids)
    assert loss.last_statistics['zero_weight_share'].item() == pytest.approx(0.25)
    assert value.item() == pytest.approx(oracle(inputs, 0.5, cue='mask', ids=ids), rel=1e-5)


@pytest.mark.parametrize('chunk_size', [3, 100])
def test_cross_image_cue(chunk_size):
    inputs = random_case()
    # Identical pixels inside each image: the mask cue leaves no own-image candidate.
    inputs['mask_logits'] = inputs['mask_logits'][..., :1, :1].expand(-1, -1, 6, 8)
    mixed = InstancePixelContrast(ALL, cue='mask', cross_image_cue='uniform', chunk_size=chunk_size)
    cross = InstancePixelContrast(ALL, cue='uniform', pool='cross_image')
    torch.testing.assert_close(mixed(**inputs), cross(**inputs))


def test_negatives_without_gradient():
    inputs = single_anchor([0.2, 0.8], positive=0.6)
    for negative_grad in (True, False):
        anchor = inputs['anchor'].clone().requires_grad_()
        loss = InstancePixelContrast(
            ALL, cue='uniform', foreground_only=True, negative_grad=negative_grad
        )
        loss(**{**inputs, 'anchor': anchor}).backward()
        assert anchor.grad[..., 0].any()
        assert bool(anchor.grad[..., 1:].any()) == negative_grad


def test_options_of_the_cue_reach_the_weights():
    # A pixel outside every mask and one inside: only the void slot tells them apart.
    masks = torch.tensor([-20.0, -20.0, 20.0]).view(1, 1, 1, 3)
    features = torch.randn(1, 4, 1, 3)
    inputs = (features, features, masks, torch.zeros(1, 1, 2))
    assert InstancePixelContrast(ALL, cue='mask')(*inputs) == 0
    loss = InstancePixelContrast(ALL, cue='mask', void_slot=True)
    assert loss(*inputs) > 0
    before = loss.last_statistics['mask_entropy']
    soft = InstancePixelContrast(ALL, cue='mask', void_slot=True, mask_temperature=10.0)
    soft(*inputs)
    assert soft.last_statistics['mask_entropy'] > before


def test_temperature_follows_its_schedule():
    inputs = random_case()
    config = {'type': 'Linear', 'start': 0.3, 'end': 0.07, 'steps': 100}
    scheduled = InstancePixelContrast(ALL, temperature=config)
    for step, temperature in [(0, 0.3), (50, 0.185), (100, 0.07), (1000, 0.07)]:
        expected = InstancePixelContrast(ALL, temperature)(**inputs)
        torch.testing.assert_close(scheduled(**inputs, step=step), expected)
    assert InstancePixelContrast(temperature=Linear(0.3, 0.07, 9)).temperature(9) == 0.07


def test_no_overflow_at_low_temperature_in_half_precision():
    inputs = {name: value.half() for name, value in random_case().items()}
    inputs['positive'] = inputs['anchor'].clone()
    inputs['anchor'].requires_grad_()
    with torch.autocast('cpu', torch.float16):
        value = InstancePixelContrast(temperature=0.01)(**inputs)
    value.backward()
    assert value.isfinite()
    assert inputs['anchor'].grad.isfinite().all()


def test_builds_from_a_config():
    loss = MODELS.build(
        {'type': 'castkd.InstancePixelContrast', 'num_negatives': 7, 'cue': 'class'}
    )
    assert isinstance(loss, InstancePixelContrast)
    assert 'num_negatives=7' in repr(loss)
    assert not list(loss.parameters())
    assert not loss.state_dict()


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'num_negatives': 0}, 'num_negatives must be an integer'),
        ({'num_negatives': 1.5}, 'num_negatives must be an integer'),
        ({'temperature': 0}, 'temperature must be a number in'),
        ({'temperature': -0.1}, 'temperature must be'),
        ({'temperature': 'warm'}, 'InstancePixelContrast: temperature: must be a number or a dict'),
        (
            {'temperature': {'type': 'Linear', 'start': 0, 'end': 1, 'steps': 9}},
            'temperature must be',
        ),
        ({'cue': 'fusd'}, "cue must be one of .* did you mean 'fused'"),
        ({'pool': 'images'}, 'pool must be one of'),
        ({'hinge': -1}, 'hinge must be'),
        ({'chunk_size': 0}, 'chunk_size must be'),
        ({'mask_temperature': 0}, 'mask_temperature must be'),
        ({'cross_image_cue': 'mesk'}, 'cross_image_cue must be'),
    ],
)
def test_wrong_option_is_named(options, text):
    with pytest.raises(ConfigError, match=text):
        InstancePixelContrast(**options)


def test_temperature_that_a_schedule_takes_to_zero_is_named():
    loss = InstancePixelContrast(temperature=Linear(0.1, 0.0, 10))
    with pytest.raises(ConfigError, match=r'temperature must be .* got 0'):
        loss(**random_case(), step=10)
