"""The pixel-wise contrastive loss: what the method promises, and an oracle.

Checks of the weights and draws alone are in ``test_sampling.py``.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from castkd.losses import InstancePixelContrast, debias_weights
from tests.losses.contract import LossContract
from tests.losses.pixel_cases import ALL, oracle, random_case, single_anchor

BATCH = {'pool': 'batch'}
CROSS = {'pool': 'cross_image'}
HINGE = {'pool': 'cross_image', 'hinge': 0.5}


def as_maps(vectors):
    """Turn lists of vectors per image (B, N, D) into maps (B, D, 1, N)."""
    return torch.tensor(vectors).transpose(1, 2).unsqueeze(2)


def plain_logits(images, pixels):
    """Return logits that the uniform cue ignores."""
    return torch.zeros(images, 1, 1, pixels), torch.zeros(images, 1, 2)


def one_anchor_loss(cosines, temperature, positive=1.0, **options):
    return InstancePixelContrast(ALL, temperature, 'uniform', foreground_only=True, **options)(
        **single_anchor(cosines, positive)
    ).item()


class TestContract(LossContract):
    trained = ('anchor',)
    targets = ('positive', 'mask_logits', 'cls_logits')

    def build(self):
        return InstancePixelContrast(num_negatives=None, temperature=0.5, chunk_size=5)

    def inputs(self):
        torch.manual_seed(1)
        valid = torch.ones(2, 3, 4, dtype=torch.bool)
        valid[0, :, 3] = False
        return {
            **random_case(),
            'valid': valid,
            'instance_ids': torch.randint(-1, 3, (2, 3, 4)),
        }

    def bad_calls(self):
        floats, whole = torch.ones(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.long)
        return [
            ({'anchor': torch.ones(2, 6, 12)}, r'anchor must be \(B, D, h, w\), got \(2, 6, 12\)'),
            ({'positive': torch.ones(2, 6, 4, 3)}, r'positive must be \(2, 6, 3, 4\) to match'),
            ({'mask_logits': torch.ones(3, 5, 6, 8)}, 'mask_logits must hold 2 images .* got 3'),
            ({'mask_logits': torch.ones(2, 6, 8)}, 'mask_logits must be .* got'),
            ({'cls_logits': torch.ones(2, 4, 4)}, r'cls_logits must be \(2, 5, C \+ 1\)'),
            ({'valid': whole.bool()[:1]}, r'valid must be \(2, 3, 4\) .* got \(1, 3, 4\)'),
            ({'valid': floats}, 'valid must be bool, got torch.float32'),
            ({'instance_ids': whole.flatten(1)}, 'instance_ids must be .* got'),
            ({'instance_ids': floats}, 'instance_ids must be integers, got torch.float32'),
        ]


@pytest.mark.parametrize(
    ('draws', 'loss'),
    [(1, 0.693147), (10, 2.397895), (64, 4.174387), (200, 5.303305), (256, 5.549076)],
)
@pytest.mark.parametrize('temperature', [0.07, 0.2, 1.0])
def test_t01_equal_embeddings(draws, loss, temperature):
    same = torch.ones(1, 4, 1, draws + 1)
    value = InstancePixelContrast(draws, temperature, 'uniform')(
        same, same, *plain_logits(1, draws + 1)
    )
    assert value.item() == pytest.approx(loss, abs=2e-6)


@pytest.mark.parametrize(
    ('temperature', 'loss'),
    [(0.07, 1.2497e-4), (0.1, 9.0390e-3), (0.2, 0.853389), (0.3, 2.096151), (0.5, 3.334597)],
)
def test_t02_orthogonal_negatives(temperature, loss):
    basis = torch.eye(201).view(1, 201, 1, 201)
    value = InstancePixelContrast(200, temperature, 'uniform')(basis, basis, *plain_logits(1, 201))
    assert value.item() == pytest.approx(loss, rel=5e-5)


@pytest.mark.parametrize(
    ('cosine', 'temperature', 'loss'),
    [(-1.0, 0.5, 1.539686), (-1.0, 0.3, 0.226758), (0.5, 0.2, 2.857447)],
)
def test_t03_other_cosines(cosine, temperature, loss):
    assert one_anchor_loss([cosine] * 200, temperature) == pytest.approx(loss, abs=1e-5)


def test_t04_constant_shift_of_all_similarities():
    # With one more shared dimension every cosine becomes (1 - c) cos + c; a temperature of (1 - c) T
    # takes the factor back, and the shift c remains.
    cosines, shift = [0.4, -0.3, 0.1], 0.25
    shifted = [(1 - shift) * cosine + shift for cosine in cosines]
    positive = (1 - shift) * 0.6 + shift
    plain = one_anchor_loss(cosines, 0.5, 0.6)
    assert one_anchor_loss(shifted, 0.375, positive) == pytest.approx(plain, abs=1e-6)
    hinged = one_anchor_loss(shifted, 0.375, positive, hinge=0.5)
    assert hinged != pytest.approx(one_anchor_loss(cosines, 0.5, 0.6, hinge=0.5), abs=1e-3)


def test_t05_gradient_of_the_cosines():
    inputs = single_anchor([0.0, 0.8], positive=0.6)
    anchor = inputs['anchor'].requires_grad_()
    loss = InstancePixelContrast(ALL, 0.5, 'uniform', foreground_only=True)(**inputs)
    loss.backward()
    assert loss.item() == pytest.approx(1.027123, abs=1e-6)
    gradient = anchor.grad[0, :, 0].T
    # Moving a unit vector at right angles to itself changes a cosine by the sine.
    of_positive = gradient[0, 3] / 0.8
    of_first, of_second = gradient[1, 0], gradient[2, 0] / 0.6**2
    cosines = torch.stack([of_positive, of_first, of_second])
    torch.testing.assert_close(
        cosines, torch.tensor([-1.283929, 0.215676, 1.068253]), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    ('options', 'per_anchor', 'mean'),
    [
        (CROSS, [0.454245, 0.807866, 1.098612, 0.142932], 0.625914),
        (BATCH, [0.536680, 0.910769, 1.118123, 0.171053], 0.684156),
        (HINGE, [0.387282, 0.614995, 0.794377, 0.239545], 0.509050),
    ],
    ids=['cross_image', 'batch', 'hinge'],
)
@pytest.mark.parametrize('draws', [ALL, 200, 3])
@pytest.mark.parametrize('cue', ['uniform', 'fused'])
def test_t06_end_to_end(options, per_anchor, mean, draws, cue):
    anchor = as_maps([[(1.0, 0.0), (0.0, 1.0)], [(1.0, 1.0), (-1.0, 0.0)]])
    positive = as_maps([[(1.0, 0.0), (1.0, 1.0)], [(0.0, 1.0), (-1.0, 0.0)]])
    masks, classes = torch.randn(2, 3, 1, 2), torch.randn(2, 3, 3)
    loss = InstancePixelContrast(draws, 0.5, cue, **options)
    assert loss(anchor, positive, masks, classes).item() == pytest.approx(mean, abs=1e-6)
    for position, expected in enumerate(per_anchor):
        alone = torch.full((2, 1, 1, 2), -1.0)
        alone.view(-1)[position] = 1.0
        loss = InstancePixelContrast(draws, 0.5, 'uniform', foreground_only=True, **options)
        value = loss(anchor, positive, alone, torch.zeros(2, 1, 2))
        assert value.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('pool', ['batch', 'cross_image'])
def test_t07_invariances(pool):
    inputs = random_case(images=3)
    loss = InstancePixelContrast(ALL, pool=pool)
    expected = loss(**inputs)
    scale = torch.rand(3, 1, 3, 4) * 10 + 0.1
    scaled = {**inputs, 'anchor': inputs['anchor'] * scale, 'positive': inputs['positive'] / scale}
    swapped = {name: value[[1, 0, 2]] for name, value in inputs.items()}
    inputs['mask_logits'] = inputs['mask_logits'][..., ::2, ::2].contiguous()
    small = loss(**inputs)
    permuted = dict(inputs)
    order = torch.randperm(12)
    for name in ('anchor', 'positive', 'mask_logits'):
        changed = inputs[name].clone()
        changed[1] = changed[1].flatten(1)[:, order].view_as(changed[1])
        permuted[name] = changed
    torch.testing.assert_close(loss(**scaled), expected)
    torch.testing.assert_close(loss(**swapped), expected)
    torch.testing.assert_close(loss(**permuted), small)


def test_t08_permuting_queries():
    inputs = random_case()
    order = torch.tensor([3, 0, 4, 2, 1])
    loss = InstancePixelContrast(10)
    values = []
    for queries in (slice(None), order):
        given = {**inputs}
        for name in ('mask_logits', 'cls_logits'):
            given[name] = inputs[name][:, queries]
        values.append(loss(**given, generator=torch.Generator().manual_seed(2)))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize('temperature', [0.07, 0.2, 1.0, 2.0])
def test_t09_hinge_with_equal_embeddings(temperature):
    same = torch.ones(1, 4, 1, 201)
    loss = InstancePixelContrast(ALL, temperature, 'uniform', hinge=0.5)
    value = loss(same, same, *plain_logits(1, 201))
    assert value.item() == pytest.approx(4.806527, abs=5e-6)


@pytest.mark.parametrize('chunk_size', [1, 7, 24, 1000])
def test_t10_chunks_change_nothing(chunk_size):
    inputs = random_case()
    inputs['anchor'].requires_grad_()
    results = []
    for size in (24, chunk_size):
        value = InstancePixelContrast(ALL, chunk_size=size)(**inputs)
        results.append((value, torch.autograd.grad(value, inputs['anchor'])[0]))
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=1e-6)


def test_t15_seed_decides():
    inputs = random_case()
    loss = InstancePixelContrast(3)
    first, second, other = (
        loss(**inputs, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other
    for name in ('mask_logits', 'cls_logits'):
        inputs[name].requires_grad_()
    assert loss(**inputs, generator=torch.Generator().manual_seed(1)) == first


def test_t16_more_draws_than_candidates():
    inputs = random_case()
    torch.testing.assert_close(
        InstancePixelContrast(1000)(**inputs), InstancePixelContrast(ALL)(**inputs)
    )


@pytest.mark.parametrize('draws', [2, 200, ALL])
@pytest.mark.parametrize('cue', ['fused', 'mask', 'class'])
def test_t16_all_weights_zero(cue, draws):
    inputs = random_case()
    inputs['mask_logits'], inputs['cls_logits'] = torch.zeros(2, 5, 6, 8), torch.zeros(2, 5, 4)
    assert_zero_with_graph(InstancePixelContrast(draws, cue=cue), inputs)


@pytest.mark.parametrize('draws', [2, 200, ALL])
def test_t16_one_image_and_cross_image_pool(draws):
    assert_zero_with_graph(InstancePixelContrast(draws, pool='cross_image'), random_case(images=1))


@pytest.mark.parametrize('draws', [2, 200, ALL])
@pytest.mark.parametrize('kept', [0, 1])
def test_t16_hardly_any_valid_pixel(draws, kept):
    valid = torch.zeros(2, 3, 4, dtype=torch.bool)
    valid.view(-1)[:kept] = True
    assert_zero_with_graph(InstancePixelContrast(draws), {**random_case(), 'valid': valid})


def assert_zero_with_graph(loss, inputs):
    inputs['anchor'].requires_grad_()
    value = loss(**inputs)
    value.backward()
    assert value == 0
    assert inputs['anchor'].grad.eq(0).all()
    assert all(number.isfinite() for number in loss.last_statistics.values())
    assert loss.last_statistics['zero_weight_share'] in (0, 1)


@pytest.mark.parametrize('cue', ['fused', 'class', 'mask', 'uniform'])
@pytest.mark.parametrize('options', [BATCH, CROSS, HINGE], ids=['batch', 'cross_image', 'hinge'])
@pytest.mark.parametrize('masked', [False, True])
def test_equals_the_oracle(cue, options, masked):
    inputs = random_case()
    extra = {}
    if masked:
        extra['valid'] = torch.rand(2, 3, 4) > 0.3
        extra['instance_ids'] = torch.randint(-2, 2, (2, 3, 4))
    value = InstancePixelContrast(ALL, 0.4, cue, chunk_size=7, **options)(**inputs, **extra)
    expected = oracle(
        inputs, 0.4, cue=cue, **options, valid=extra.get('valid'), ids=extra.get('instance_ids')
    )
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_draws_average_to_the_weights():
    """Over many draws of one negative, the loss is the weighted mean over single candidates."""
    inputs = {name: value.double() for name, value in random_case(images=1, size=(1, 4)).items()}
    weights = debias_weights(inputs['mask_logits'], inputs['cls_logits'], (1, 4))[0, :, 0]
    z, target = (F.normalize(inputs[name][0, :, 0].T, dim=1) for name in ('anchor', 'positive'))
    positive = (z * target).sum(1, keepdim=True) / 0.5
    single = F.softplus(z @ z.T / 0.5 - positive)
    expected = (single * weights / weights.sum(1, keepdim=True)).sum(1).mean()
    assert not torch.isclose(expected, single.fill_diagonal_(0).sum() / 12, rtol=0.1)
    generator = torch.Generator().manual_seed(0)
    loss = partial(InstancePixelContrast(1, 0.5), **inputs, generator=generator)
    mean = torch.stack([loss() for _ in range(300)]).mean()
    torch.testing.assert_close(mean, expected, rtol=0.05, atol=0)
