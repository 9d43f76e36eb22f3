"""KD and CWD: numbers, the plain PyTorch forms, and the invariances that tell one from the other."""

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.losses import ChannelWiseDistillation, LogitDistillation
from castkd.registry import MODELS
from tests.losses.map_pairs import PairContract, round_waves, waves


class TestLogitDistillation(PairContract):
    def build(self):
        return LogitDistillation(tau=2.0)

    def extra(self):
        labels = torch.zeros(2, 8, 10, dtype=torch.long)
        labels[0, :4] = 255
        return {'target': labels}

    def bad_calls(self):
        labels = self.extra()['target']
        return [
            *super().bad_calls(),
            (
                {'target': labels.float()},
                r'target must be \(2, H, W\) integers, got .* torch.float32',
            ),
            ({'target': labels[:1]}, r'target must be \(2, H, W\) integers, got \(1, 8, 10\)'),
            ({'target': labels[:, None]}, 'target must be'),
        ]


class TestChannelWiseDistillation(PairContract):
    def build(self):
        return ChannelWiseDistillation()


@pytest.mark.parametrize(('tau', 'value'), [(1.0, 0.4323810975), (4.0, 0.4809894053)])
def test_value_of_kd(tau, value):
    assert LogitDistillation(tau)(*waves()).item() == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize(('tau', 'value'), [(1.0, 0.1334069039), (4.0, 0.1493424550)])
def test_value_of_cwd(tau, value):
    assert ChannelWiseDistillation(tau)(*waves()).item() == pytest.approx(value, abs=1e-10)


def test_value_of_cwd_the_other_way():
    student, teacher = waves()
    value = ChannelWiseDistillation()(teacher, student).item()
    assert value == pytest.approx(0.1497974443, abs=1e-10)


@pytest.mark.parametrize(('tau', 'value'), [(1.0, 0.130812), (4.0, 0.149457)])
def test_cwd_of_one_channel_by_hand(tau, value):
    student = torch.zeros(1, 1, 1, 2)
    teacher = torch.tensor([0.0, 2.0]).log1p().view(1, 1, 1, 2)
    assert ChannelWiseDistillation(tau)(student, teacher).item() == pytest.approx(value, abs=1e-6)


def test_kd_equals_torch_per_pixel():
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    rows = [value.permute(0, 2, 3, 1).reshape(-1, 5) / 3 for value in (student, teacher)]
    expected = F.kl_div(rows[0].log_softmax(1), rows[1].softmax(1), reduction='batchmean') * 9
    torch.testing.assert_close(LogitDistillation(3.0)(student, teacher), expected)


def test_cwd_equals_torch_per_channel():
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    rows = [value.reshape(-1, 12) / 4 for value in (student, teacher)]
    expected = F.kl_div(rows[0].log_softmax(1), rows[1].softmax(1), reduction='batchmean') * 16
    torch.testing.assert_close(ChannelWiseDistillation()(student, teacher), expected)


def test_invariances_tell_one_from_the_other():
    student, teacher = round_waves()
    per_channel = student + torch.tensor([1.0, -2.0, 5.0]).view(1, 3, 1, 1)
    per_pixel = student + torch.arange(5.0)
    for loss, same, other in (
        (ChannelWiseDistillation(), per_channel, per_pixel),
        (LogitDistillation(), per_pixel, per_channel),
    ):
        expected = loss(student, teacher)
        torch.testing.assert_close(loss(same, teacher), expected, atol=1e-16, rtol=0)
        assert not torch.isclose(loss(other, teacher), expected, rtol=1e-3)
        assert not torch.isclose(loss(2 * student, teacher), expected, rtol=1e-3)
        order = torch.randperm(20)
        mixed = [value.flatten(2)[:, :, order].view_as(value) for value in (student, teacher)]
        torch.testing.assert_close(loss(*mixed), expected)


@pytest.mark.parametrize('ignore_index', [255, -1])
def test_ignored_pixels_change_nothing(ignore_index):
    student, teacher = (value.requires_grad_() for value in waves())
    labels = torch.zeros(2, 4, 5, dtype=torch.long)
    labels[:, 1:] = ignore_index
    loss = LogitDistillation(ignore_index=ignore_index)
    value = loss(student, teacher, labels)
    torch.testing.assert_close(value, loss(student[:, :, :1], teacher[:, :, :1]))
    value.backward()
    assert student.grad[:, :, :1].abs().min() > 0
    assert not student.grad[:, :, 1:].any()


def test_labels_of_the_image_are_read_at_the_nearest_pixel():
    student, teacher = waves()
    small = torch.zeros(2, 4, 5, dtype=torch.uint8)
    small[0, 2:, 1:] = 255
    large = small.repeat_interleave(8, 1).repeat_interleave(8, 2)
    loss = LogitDistillation()
    torch.testing.assert_close(loss(student, teacher, large), loss(student, teacher, small))
    assert loss(student, teacher, small) != loss(student, teacher)


def test_a_label_is_that_of_the_centre():
    student, teacher = waves()
    labels = torch.full((2, 12, 15), 255)
    labels[:, 1::3, 1::3] = 0
    loss = LogitDistillation()
    assert loss(student, teacher, labels) == loss(student, teacher)


def test_fully_ignored_crop_gives_zero_with_a_graph():
    student, teacher = waves()
    value = LogitDistillation()(student.requires_grad_(), teacher, torch.full((2, 4, 5), 255))
    value.backward()
    assert value == 0
    assert not student.grad.any()


@pytest.mark.parametrize('loss', [LogitDistillation(), ChannelWiseDistillation(1.0)])
def test_far_apart_logits_do_not_overflow(loss, device):
    student = torch.randn(1, 3, 4, 4, device=device).half().mul(1000).requires_grad_()
    teacher = torch.randn(1, 3, 4, 4, device=device).half() * 1000
    value = loss(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize('name', ['LogitDistillation', 'ChannelWiseDistillation'])
def test_builds_from_a_config_that_is_checked(name):
    assert MODELS.build({'type': f'castkd.{name}', 'tau': 2.0}).tau == 2.0
    with pytest.raises(ConfigError, match=rf'{name}: tau must be a number in \(0, inf\), got 0'):
        MODELS.build({'type': f'castkd.{name}', 'tau': 0})
