"""IFVD: numbers, a loop over images and classes, and ignored pixels."""

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import IntraClassVariation
from castkd.registry import MODELS
from tests.losses.map_pairs import PairContract, waves


class TestIntraClassVariation(PairContract):
    same_channels = False

    def build(self):
        return IntraClassVariation()

    def extra(self):
        labels = torch.arange(40).view(2, 4, 5) % 4
        return {'target': labels.masked_fill(labels == 3, 255)}

    def bad_calls(self):
        labels = self.extra()['target']
        return [
            *super().bad_calls(),
            ({'target': None}, 'needs label maps; set labels=True'),
            ({'target': labels.float()}, r'target must be \(2, H, W\) integers'),
            ({'target': labels[:1]}, r'target must be \(2, H, W\) integers'),
        ]


def test_value():
    labels = torch.arange(40).view(2, 4, 5) % 4
    value = IntraClassVariation(ignore_index=3)(*waves(), labels)
    assert value.item() == pytest.approx(0.0018277081, abs=1e-10)


def test_equals_a_loop_over_images_and_classes():
    student, teacher = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randn(2, 6, 4, 5)
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[1, 0] = 255
    total = 0.0
    for image in range(2):
        for label in range(3):
            inside = labels[image] == label
            cosines = []
            for feature in (student[image], teacher[image]):
                pixels = feature[:, inside].T
                cosines.append(F.cosine_similarity(pixels, pixels.mean(0, keepdim=True)))
            total = total + (cosines[0] - cosines[1]).pow(2).sum()
    value = IntraClassVariation()(student, teacher, labels)
    torch.testing.assert_close(value, total / 40)
    torch.testing.assert_close(
        torch.autograd.grad(value, student), torch.autograd.grad(total / 40, student)
    )


@pytest.mark.parametrize('ignore_index', [255, -1, 3])
def test_what_ignored_pixels_hold_changes_nothing(ignore_index):
    student, teacher = waves()
    labels = torch.arange(40).view(2, 4, 5) % 4
    labels[labels == 3] = ignore_index
    loss = IntraClassVariation(ignore_index)
    expected = loss(student, teacher, labels)
    ignored = (labels == ignore_index)[:, None]
    changed = [torch.where(ignored, torch.randn_like(value), value) for value in (student, teacher)]
    torch.testing.assert_close(loss(*changed, labels), expected, rtol=0, atol=0)
    assert expected > 0


def test_names_of_classes_do_not_matter():
    student, teacher = waves()
    labels = torch.arange(40).view(2, 4, 5) % 3
    loss = IntraClassVariation()
    expected = loss(student, teacher, labels)
    renamed = torch.tensor([17, 0, 150])[labels]
    torch.testing.assert_close(loss(student, teacher, renamed), expected)
    # The same class in another image is another group.
    torch.testing.assert_close(
        (loss(student[:1], teacher[:1], labels[:1]) + loss(student[1:], teacher[1:], labels[1:]))
        / 2,
        expected,
    )


def test_fully_ignored_crop_gives_zero_with_a_graph():
    student, teacher = waves()
    labels = torch.full((2, 4, 5), 255)
    value = IntraClassVariation()(student.requires_grad_(), teacher, labels)
    value.backward()
    assert value == 0
    assert not student.grad.any()
    labels[1] = 2
    assert IntraClassVariation()(student, teacher, labels) > 0


def test_missing_labels_are_told_with_what_to_do():
    loss = MODELS.build({'type': 'castkd.IntraClassVariation'})
    with pytest.raises(ConfigError, match='set labels=True and views that have labels'):
        loss(*waves())
