"""The benchmark of the semantic losses compares like with like, and runs."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks import semantic_losses
from benchmarks.semantic_losses import CASES, make_inputs, run


@pytest.mark.parametrize('name', CASES)
def test_a_plain_form_is_the_same_loss(name):
    case = replace(CASES[name], size=(16, 24))
    inputs = make_inputs(case, 'cpu')
    wanted = run(case.plain, inputs)
    gradients = [tensor.grad for tensor in inputs]
    found = run(case.loss, inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    for tensor, gradient in zip(inputs, gradients, strict=True):
        assert (tensor.grad is None) == (gradient is None)
        if gradient is not None:
            torch.testing.assert_close(tensor.grad, gradient, rtol=1e-3, atol=1e-6)


def test_command_measures_what_is_asked_for(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(semantic_losses, 'run_apart', lambda function, *rest: function(*rest))
    monkeypatch.setitem(CASES, 'CWD', replace(CASES['CWD'], size=(8, 8)))
    out = tmp_path / 'losses.json'
    options = ['--losses', 'CWD', '--repeat', '1', '--device', 'cpu', '--out', str(out)]
    semantic_losses.main(options)
    (row,) = json.loads(out.read_text())['rows']
    assert row['ratio'] == row['seconds']['loss'] / row['seconds']['plain'] > 0
    assert 'CWD' in capsys.readouterr().out
