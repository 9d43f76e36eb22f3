"""Losses of general instance distillation: hand-computed numbers, invariances, empty and equal input."""

import math

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import (
    InstanceFeatureLoss,
    RelationLoss,
    class_divergence,
    delta_response,
    instance_feature_loss,
    mask_response,
    relation_loss,
    soft_class_response,
)
from tests.losses.contract import LossContract

LINE = torch.tensor([[0.0], [1.0], [3.0]])
TRIANGLE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])


class PooledFeatures(LossContract):
    def inputs(self):
        torch.manual_seed(3)
        return {name: torch.randn(5, 3, 2, 2) for name in ('student', 'teacher')}


class TestInstanceFeatureLoss(PooledFeatures):
    def build(self):
        return InstanceFeatureLoss()

    def bad_calls(self):
        return [
            ({'student': torch.ones(5, 12)}, r'features \(G, C, h, w\), got \(5, 12\)'),
            ({'teacher': torch.ones(4, 3, 2, 2)}, 'of the same instances'),
            ({'teacher': torch.ones(5, 6, 2, 2)}, r'got \(5, 3, 2, 2\) and \(5, 6, 2, 2\)'),
        ]


class TestNormOfFeatures(TestInstanceFeatureLoss):
    def build(self):
        return InstanceFeatureLoss(form='l2norm')


class TestRelationLoss(PooledFeatures):
    def build(self):
        return RelationLoss()

    def bad_calls(self):
        return [
            ({'student': torch.ones(5)}, r'student must be features \(G, ...\), got \(5,\)'),
            ({'teacher': torch.ones(4, 12)}, 'of the same instances'),
        ]


class TestRelationLossOfImages(TestRelationLoss):
    def build(self):
        return RelationLoss(scope='image')

    def inputs(self):
        return {**super().inputs(), 'image_index': torch.tensor([0, 0, 1, 0, 1])}

    def bad_calls(self):
        return [
            *super().bad_calls(),
            ({'image_index': None}, r'image_index \(5,\), the image of every instance, got None'),
            ({'image_index': torch.zeros(4)}, r'got \(4,\)'),
        ]


@pytest.mark.parametrize('loss', [InstanceFeatureLoss, RelationLoss])
def test_unknown_option_is_named(loss):
    with pytest.raises(ConfigError, match=f'{loss.__name__}: .* must be one of'):
        loss('other')


# ---- features -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('count', [1, 2, 7])
def test_constant_difference_does_not_depend_on_the_number(count):
    student = torch.randn(count, 4, 10, 10)
    assert instance_feature_loss(student, student + 0.5).item() == pytest.approx(1.0, abs=1e-5)


def test_feature_loss_sums_channels_and_averages_the_rest(dtype):
    student, teacher = torch.randn(2, 3, 4, 5, 6, dtype=dtype)
    difference = student - teacher
    expected = sum(
        difference[i, :, y, x].square().sum() for i in range(3) for y in range(5) for x in range(6)
    )
    torch.testing.assert_close(instance_feature_loss(student, teacher), expected / 90)
    norms = [difference[i].square().sum().sqrt() for i in range(3)]
    torch.testing.assert_close(
        instance_feature_loss(student, teacher, form='l2norm'), sum(norms) / 3
    )


@pytest.mark.parametrize('form', ['mean_square', 'l2norm'])
def test_equal_features_give_zero_and_a_finite_gradient(form):
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = instance_feature_loss(student, student.detach(), form=form)
    loss.backward()
    assert loss.item() == 0
    assert student.grad.isfinite().all()


# ---- relations ------------------------------------------------------------------------------------------------------


def slow_relations(features):
    count = len(features)
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    distances = [(features[i] - features[j]).square().sum().sqrt() for i, j in pairs]
    mean = sum(distances) / len(distances)
    return [distance / mean for distance in distances]


def test_relation_of_a_line_and_a_triangle():
    value = relation_loss(TRIANGLE, LINE).item()
    assert value == pytest.approx(0.5**2 / 2 * 2 / 3, abs=1e-7)
    assert 40 * value == pytest.approx(3.33333, abs=1e-5)


def test_relation_equals_plain_loops():
    student, teacher = torch.randn(2, 6, 5, dtype=torch.float64)
    # A far outlier, so that some residuals are beyond the threshold of the Huber function.
    student[0] *= 50
    residuals = [
        a - b for a, b in zip(slow_relations(teacher), slow_relations(student), strict=True)
    ]
    assert max(abs(value) for value in residuals) > 1
    expected = sum(F.smooth_l1_loss(value, torch.zeros_like(value)) for value in residuals) / 30
    torch.testing.assert_close(relation_loss(student, teacher), expected)


def test_relation_ignores_scale_and_order():
    student, teacher = torch.randn(2, 7, 3, 2, 2)
    value = relation_loss(student, teacher).item()
    assert value > 1e-4
    assert relation_loss(13 * student, teacher).item() == pytest.approx(value, rel=1e-4)
    order = torch.randperm(7)
    assert relation_loss(student[order], teacher[order]).item() == pytest.approx(value, rel=1e-4)
    assert relation_loss(student, teacher[order]).item() != pytest.approx(value, rel=1e-2)
    assert relation_loss(teacher, teacher).item() == 0


@pytest.mark.parametrize('count', [0, 1, 2])
def test_two_instances_have_no_relation(count):
    student = torch.randn(count, 3, 2, 2, requires_grad=True)
    loss = relation_loss(student, torch.randn(count, 3, 2, 2))
    loss.backward()
    assert loss.item() == 0
    assert not student.grad.any()


@pytest.mark.parametrize('equal', [2, 4])
def test_equal_instances_give_finite_gradients(equal):
    student = torch.randn(4, 8)
    student[:equal] = student[0]
    student.requires_grad_()
    loss = relation_loss(student, torch.randn(4, 8))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


def test_small_distances_of_long_vectors_are_not_lost():
    """In float32, norms of 1e8 minus products of 1e8 would leave nothing of distances of 0.1."""
    offset = torch.full((1, 256, 10, 10), 1000.0)
    small = torch.randn(5, 256, 10, 10) * 1e-3
    small = (small + offset) - offset
    teacher = torch.randn(5, 256, 10, 10)
    expected = relation_loss(small.double(), teacher.double()).item()
    assert relation_loss(small + offset, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_features_of_half_precision_do_not_overflow():
    student, teacher = 100 * torch.randn(2, 4, 256, 10, 10)
    expected = relation_loss(student.half().float(), teacher.half().float())
    torch.testing.assert_close(relation_loss(student.half(), teacher.half()), expected)


def test_image_scope_is_the_mean_over_images_with_three():
    student, teacher = torch.randn(2, 9, 6)
    index = torch.tensor([0, 1, 0, 2, 1, 0, 1, 1, 2])
    values = [relation_loss(student[index == i], teacher[index == i]).item() for i in (0, 1)]
    value = relation_loss(student, teacher, index, scope='image').item()
    assert value == pytest.approx(sum(values) / 2, rel=1e-5)
    assert value != pytest.approx(relation_loss(student, teacher).item(), rel=1e-2)


# ---- responses ------------------------------------------------------------------------------------------------------


def test_soft_targets_of_one_slot():
    teacher = torch.tensor([[2.0, -2.0]])
    student = torch.zeros(1, 2)
    assert soft_class_response(student, teacher).item() == pytest.approx(2 * math.log(2), abs=1e-6)
    student = teacher.clone().requires_grad_()
    loss = soft_class_response(student, teacher)
    loss.backward()
    # What is left is the teacher's entropy.
    probability = 1 / (1 + math.exp(-2))
    entropy = -probability * math.log(probability) - (1 - probability) * math.log(1 - probability)
    assert loss.item() == pytest.approx(2 * entropy, abs=1e-6)
    assert loss.item() == pytest.approx(0.730668, abs=1e-6)
    assert student.grad.abs().max() < 1e-7


@pytest.mark.parametrize('beta', [0.0, 0.1])
def test_deltas_are_summed_over_four_and_averaged(beta):
    student, teacher = torch.randn(2, 6, 4)
    gaps = (student - teacher).abs()
    each = gaps if beta == 0 else torch.where(gaps < beta, gaps**2 / (2 * beta), gaps - beta / 2)
    torch.testing.assert_close(delta_response(student, teacher, beta=beta), each.sum() / 6)
    weight = torch.rand(6)
    expected = (each.sum(dim=1) * weight).sum() / 6
    torch.testing.assert_close(delta_response(student, teacher, beta=beta, weight=weight), expected)


def test_class_divergence_is_the_mean_over_boxes():
    student, teacher = torch.randn(2, 5, 4)
    targets = teacher.softmax(1)
    expected = (targets * (targets.log() - student.log_softmax(1))).sum() / 5
    torch.testing.assert_close(class_divergence(student, teacher), expected)
    assert class_divergence(teacher, teacher).item() == pytest.approx(0, abs=1e-7)


def test_mask_response_is_weighted():
    student, teacher = torch.randn(2, 3, 4, 4)
    each = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction='none')
    each = each.mean(dim=(1, 2))
    value = mask_response(student, teacher, torch.tensor([0.9, 0.0, 0.4]))
    torch.testing.assert_close(value, (0.9 * each[0] + 0.4 * each[2]) / 1.3)
    # Fewer than one box's worth of objects does not count as one.
    value = mask_response(student, teacher, torch.tensor([0.2, 0.0, 0.0]))
    torch.testing.assert_close(value, 0.2 * each[0])


RESPONSES = {
    'classes': (soft_class_response, (3, 5)),
    'deltas': (delta_response, (3, 4)),
    'divergence': (class_divergence, (3, 5)),
    'masks': (lambda s, t: mask_response(s, t, torch.ones(len(s))), (3, 6, 6)),
}


@pytest.mark.parametrize('name', RESPONSES)
def test_response_trains_the_student_alone_and_duplicates_do_not_count(name):
    response, shape = RESPONSES[name]
    student, teacher = torch.randn(2, *shape)
    student.requires_grad_()
    teacher.requires_grad_()
    loss = response(student, teacher)
    loss.backward()
    assert student.grad.any()
    assert student.grad.isfinite().all()
    assert teacher.grad is None
    twice = response(torch.cat([student, student]), torch.cat([teacher, teacher]))
    torch.testing.assert_close(twice, loss)


@pytest.mark.parametrize('name', RESPONSES)
def test_response_without_any_slot_is_a_connected_zero(name):
    response, shape = RESPONSES[name]
    student = torch.randn(0, *shape[1:], requires_grad=True)
    loss = response(student, torch.randn(0, *shape[1:]))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None


@pytest.mark.parametrize('name', RESPONSES)
def test_response_of_half_precision_is_computed_in_float32(name, device):
    response, shape = RESPONSES[name]
    student, teacher = torch.randn(2, *shape, device=device).half()
    expected = response(student.cpu().float(), teacher.cpu().float())
    value = response(student.cpu(), teacher.cpu())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('name', RESPONSES)
def test_wrong_shape_of_a_response_is_named(name):
    response, shape = RESPONSES[name]
    with pytest.raises(ConfigError, match='of the same instances, got'):
        response(torch.zeros(shape), torch.zeros(shape[0] + 1, *shape[1:]))
    with pytest.raises(ConfigError, match='student must be'):
        response(torch.zeros(3), torch.zeros(3))
