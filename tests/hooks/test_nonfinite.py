"""NaN weights are never saved."""

import pytest
import torch

from castkd.errors import TrainingError
from castkd.hooks import StopOnNonFinite
from tests.hooks.toy import At, toy_distiller, toy_runner


def spoil(value):
    def act(runner):
        with torch.no_grad():
            runner.model.student.conv.bias[0] = value

    return act


@pytest.mark.parametrize('value', [float('nan'), float('-inf')])
def test_spoilt_weights_stop_before_the_checkpoint(tmp_path, value):
    hooks = [At(2, spoil(value)), StopOnNonFinite()]
    runner = toy_runner(tmp_path, toy_distiller(), hooks)
    text = r'student\.conv\.bias and 0 other weights are not finite at iteration 2.*iter_1\.pth'
    with pytest.raises(TrainingError, match=text):
        runner.train()
    assert [path.name for path in tmp_path.glob('*.pth')] == ['iter_1.pth']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_1.pth')


def test_first_checkpoint_has_none_before_it(tmp_path):
    hooks = [At(1, spoil(float('nan'))), StopOnNonFinite()]
    with pytest.raises(TrainingError, match='last good: none'):
        toy_runner(tmp_path, toy_distiller(), hooks).train()


def test_good_weights_are_saved(tmp_path):
    toy_runner(tmp_path, toy_distiller(), [StopOnNonFinite()], max_iters=2).train()
    assert (tmp_path / 'iter_2.pth').exists()
