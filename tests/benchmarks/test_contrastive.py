"""The benchmark of the contrastive loss compares like with like, and runs."""

import json

import pytest
import torch

from benchmarks import contrastive
from castkd.losses import InstancePixelContrast


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(contrastive.SIZES, '703', (8, 8))
    monkeypatch.setattr(contrastive, 'run_apart', lambda function, *rest: function(*rest))


def test_dense_form_is_the_same_loss():
    inputs = contrastive.make_inputs((4, 5), 'cpu')
    others = inputs[0].shape[0] * 20 - 1
    dense = contrastive.dense_contrast(*inputs, num_negatives=others)
    dense.backward()
    expected = inputs[0].grad.clone()
    inputs[0].grad = None
    chunked = InstancePixelContrast(num_negatives=None)(*inputs)
    chunked.backward()
    torch.testing.assert_close(chunked, dense)
    torch.testing.assert_close(inputs[0].grad, expected)


def test_command_measures_both_forms(tmp_path, capsys):
    out = tmp_path / 'contrastive.json'
    contrastive.main(['--pixels', '703', '--repeat', '1', '--device', 'cpu', '--out', str(out)])
    (row,) = json.loads(out.read_text())['rows']
    assert row['ratio'] == row['chunked']['seconds'] / row['dense']['seconds']
    assert row['chunked']['peak_mib'] >= 0
    assert '4 x 703' in capsys.readouterr().out


def test_a_dense_form_that_does_not_fit_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(contrastive, 'dense_fits', lambda pixels, device: False)
    contrastive.main(['--pixels', '703', '--repeat', '1', '--device', 'cpu'])
    assert 'does not fit' in capsys.readouterr().out
