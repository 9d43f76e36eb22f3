"""A training starts from the weights that it was told to start from, or not at all."""

import pytest
import torch

from castkd.errors import CheckpointError
from castkd.hooks import FirstWeights
from castkd.objectives import Supervised
from tests.hooks.toy import toy_distiller, toy_runner


@pytest.fixture
def weights(tmp_path):
    """Checkpoint of a distiller with one objective."""
    state = toy_distiller(objectives={'sup': Supervised()}).state_dict()
    torch.save({'state_dict': state, 'meta': {}}, tmp_path / 'first.pth')
    return tmp_path / 'first.pth'


def start(folder, file):
    toy_runner(folder, toy_distiller(), [FirstWeights()], max_iters=1, load_from=str(file)).train()
    return (folder / 'iter_1.pth').is_file()


def change(file, edit):
    content = torch.load(file, weights_only=True)
    content['state_dict'] = edit(content['state_dict'])
    torch.save(content, file)


def test_the_student_of_another_stage_fits(tmp_path, weights):
    change(weights, lambda state: {**state, 'objectives.cast.projector.weight': torch.ones(2)})
    assert start(tmp_path, weights)


@pytest.mark.parametrize(
    ('edit', 'text'),
    [
        (
            lambda state: {**state, 'student.conv.weight': torch.ones(7)},
            r'load_from: .*first\.pth.*another model: 1 other shape \(student\.conv\.weight \(7,\)',
        ),
        (
            lambda state: {**state, 'student.neck.weight': torch.ones(1)},
            r'1 unexpected key \(student\.neck\.weight\).*Pretrained',
        ),
        (
            lambda state: {key.removeprefix('student.'): value for key, value in state.items()},
            r'6 missing keys \(student\..*model\.student_checkpoint takes the weights of a plain',
        ),
    ],
)
def test_another_model_is_refused_before_the_first_step(tmp_path, weights, edit, text):
    change(weights, edit)
    with pytest.raises(CheckpointError, match=text):
        start(tmp_path, weights)
    assert not list(tmp_path.glob('iter_*.pth'))
