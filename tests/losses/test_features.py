"""FitNets' hint and attention transfer: numbers, plain forms and what leaves them unchanged."""

import pytest
import torch
import torch.nn.functional as F

from castkd.connectors import ConvConnector
from castkd.losses import AttentionTransfer, HintLoss
from castkd.registry import MODELS
from tests.losses.map_pairs import PairContract, waves


class TestHintLoss(PairContract):
    def build(self):
        return MODELS.build({'type': 'castkd.HintLoss'})


class TestAttentionTransfer(PairContract):
    same_channels = False

    def build(self):
        return MODELS.build({'type': 'castkd.AttentionTransfer'})


def test_values():
    assert HintLoss()(*waves()).item() == pytest.approx(0.9723142440, abs=1e-10)
    assert AttentionTransfer()(*waves()).item() == pytest.approx(0.00074717933, abs=1e-11)


def test_hint_behind_an_identity_adapter():
    student, teacher = waves()
    adapter = ConvConnector(3, 3).double()
    torch.nn.init.dirac_(adapter.conv.weight)
    value = HintLoss()(adapter(student), teacher)
    assert value.item() == pytest.approx(0.9723142440, abs=1e-10)
    torch.testing.assert_close(value, F.mse_loss(student, teacher))


def test_attention_equals_a_loop():
    student, teacher = torch.randn(2, 3, 2, 3), torch.randn(2, 7, 2, 3)
    expected = 0.0
    for image in range(2):
        maps = []
        for feature in (student[image], teacher[image]):
            strength = torch.stack(
                [feature[:, y, x].pow(2).mean() for y in range(2) for x in range(3)]
            )
            maps.append(strength / strength.pow(2).sum().sqrt())
        expected += (maps[0] - maps[1]).pow(2).sum() / 12
    torch.testing.assert_close(AttentionTransfer()(student, teacher), expected)


def test_attention_ignores_scale_and_order_of_channels():
    student, teacher = waves()
    expected = AttentionTransfer()(student, teacher)
    torch.testing.assert_close(AttentionTransfer()(7 * student, -0.1 * teacher), expected)
    torch.testing.assert_close(AttentionTransfer()(student.flip(1), teacher), expected)
    assert not torch.isclose(AttentionTransfer()(student.flip(2), teacher), expected)
