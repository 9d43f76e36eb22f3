import argparse
import pickle
import subprocess
import sys
from collections import OrderedDict

import mmengine.runner.checkpoint as mmengine_checkpoint
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from torch import nn

from castkd.checkpoints import (
    guard_unsafe_fallback,
    load_checkpoint,
    load_strict,
    sha256,
    student_state,
)
from castkd.errors import CheckpointError


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), 'w'))


@pytest.fixture
def guarded(monkeypatch):
    """Guard mmengine for one test."""
    for name in ('_safe_torch_load', 'load_url'):
        monkeypatch.setattr(mmengine_checkpoint, name, getattr(mmengine_checkpoint, name))
    schemes = dict(mmengine_checkpoint.CheckpointLoader._schemes)
    monkeypatch.setattr(mmengine_checkpoint.CheckpointLoader, '_schemes', schemes)
    guard_unsafe_fallback()
    guard_unsafe_fallback()


def test_reads_what_mmengine_writes(tmp_path):
    content = {
        'state_dict': OrderedDict(weight=torch.arange(3.0)),
        'message_hub': {'loss': HistoryBuffer([1.0, 2.0], [1, 1])},
        'meta': {'iter': 5, 'classes': ('a', 'b'), 'numbers': np.arange(3), 'one': np.float64(1.5)},
    }
    torch.save(content, tmp_path / 'a.pth')
    read = load_checkpoint(tmp_path / 'a.pth')
    assert read['meta']['classes'] == ('a', 'b')
    assert torch.equal(read['state_dict']['weight'], torch.arange(3.0))
    assert read['message_hub']['loss'].current() == 2.0


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.pth' does not exist; check the path$"):
        load_checkpoint(tmp_path / 'none.pth')
    with pytest.raises(CheckpointError, match='is a folder, not a file'):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize('kind', ['cut', 'empty', 'text', 'html', 'noise'])
def test_damaged_file(tmp_path, kind):
    path = tmp_path / 'damaged.pth'
    torch.save({'state_dict': {'weight': torch.ones(10000)}}, path)
    whole = path.read_bytes()
    noise = np.random.default_rng(0).bytes(1000)
    contents = {
        'cut': whole[: len(whole) // 2],
        'empty': b'',
        'text': b'hello world, not a checkpoint',
        'html': b'<!DOCTYPE html><html>404</html>',
        'noise': noise,
    }
    path.write_bytes(contents[kind])
    with pytest.raises(
        CheckpointError, match=r"damaged\.pth' is truncated, damaged or no checkpoint"
    ) as caught:
        load_checkpoint(path)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_the_file_is_refused_and_not_run(tmp_path, zipped):
    content = {'state_dict': {'weight': torch.ones(2)}, 'meta': Bomb(tmp_path / 'exploded')}
    torch.save(content, tmp_path / 'bomb.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"bomb\.pth' would run code .*open.* is refused"
    ) as caught:
        load_checkpoint(tmp_path / 'bomb.pth')
    assert '\n' not in str(caught.value)
    assert not (tmp_path / 'exploded').exists()


def test_harmless_foreign_class_is_refused_too(tmp_path):
    torch.save({'args': argparse.Namespace(lr=1)}, tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=r'argparse\.Namespace'):
        load_checkpoint(tmp_path / 'a.pth')


def test_bare_pickle_is_refused_and_not_run(tmp_path):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(Bomb(tmp_path / 'exploded')))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / 'a.pkl')
    assert not (tmp_path / 'exploded').exists()


def test_not_a_dict(tmp_path):
    torch.save([1, 2], tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds a list, not a checkpoint'):
        load_checkpoint(tmp_path / 'a.pth')


def test_mmengine_itself_falls_back_to_running_code(tmp_path):
    # Why the guard is needed; when this fails, mmengine has become strict and the guard can go.
    # A process of its own: the guard of another test would still be in place here.
    torch.save({'state_dict': {}, 'meta': Bomb(tmp_path / 'exploded')}, tmp_path / 'bomb.pth')
    code = 'import sys; from mmengine.runner import checkpoint; checkpoint._load_checkpoint(sys.argv[1])'
    subprocess.run([sys.executable, '-c', code, str(tmp_path / 'bomb.pth')], check=True)
    assert (tmp_path / 'exploded').exists()


@pytest.mark.usefixtures('guarded')
def test_guard_makes_mmengine_refuse(tmp_path):
    torch.save({'state_dict': {}, 'meta': Bomb(tmp_path / 'exploded')}, tmp_path / 'bomb.pth')
    with pytest.raises(CheckpointError, match='would run code'):
        mmengine_checkpoint._load_checkpoint(str(tmp_path / 'bomb.pth'))
    with (
        open(tmp_path / 'bomb.pth', 'rb') as file,
        pytest.raises(CheckpointError, match="'downloaded checkpoint' would run code"),
    ):
        mmengine_checkpoint._safe_torch_load(file, weights_only=False)
    assert not (tmp_path / 'exploded').exists()


@pytest.mark.usefixtures('guarded')
def test_guard_covers_addresses(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', lambda *args, **kwargs: None)
    monkeypatch.setattr(
        torch.hub.torch, 'load', lambda *args, **kwargs: asked.update(kwargs) or {'state_dict': {}}
    )
    mmengine_checkpoint._load_checkpoint('https://example.org/a.pth')
    assert asked['weights_only'] is True


@pytest.mark.usefixtures('guarded')
def test_guard_leaves_good_files_readable(tmp_path):
    torch.save({'state_dict': {'weight': torch.ones(1, 2)}}, tmp_path / 'good.pth')
    model = nn.Linear(2, 1, bias=False)
    mmengine_checkpoint.load_checkpoint(model, str(tmp_path / 'good.pth'), strict=True)
    assert torch.equal(model.weight, torch.ones(1, 2))
    with pytest.raises(CheckpointError, match='does not exist'):
        mmengine_checkpoint.load_checkpoint(model, str(tmp_path / 'none.pth'))


def test_sha256(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    assert sha256(tmp_path / 'a') == (
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    )
    with pytest.raises(CheckpointError, match='cannot read'):
        sha256(tmp_path / 'none')


def test_student_state_cuts_the_prefix_once():
    state = OrderedDict(
        {
            'student.conv.weight': torch.ones(1),
            'student.student.bias': torch.ones(2),
            'objectives.pxl.student.weight': torch.ones(3),
            'teachers.ema.conv.weight': torch.ones(4),
            'step': torch.tensor(7),
        }
    )
    state._metadata = {
        '': {'version': 1},
        'student': {'version': 2},
        'student.conv': {'version': 3},
    }
    cut = student_state({'state_dict': state})
    assert list(cut) == ['conv.weight', 'student.bias']
    assert dict(cut._metadata) == {'': {'version': 2}, 'conv': {'version': 3}}
    assert cut['student.bias'] is state['student.student.bias']


def test_student_state_of_a_plain_model_is_everything():
    state = nn.BatchNorm1d(2).state_dict()
    assert list(student_state({'state_dict': state})) == list(state)
    assert list(student_state(state)) == list(state)
    assert student_state({'state_dict': state})._metadata == state._metadata


@pytest.mark.parametrize('content', [{}, {'meta': {}, 'epoch': 1}, {'state_dict': {}}])
def test_student_state_without_weights(content):
    with pytest.raises(CheckpointError, match='holds no weights'):
        student_state(content)


def test_load_strict_loads():
    model, other = nn.Linear(2, 3), nn.Linear(2, 3)
    load_strict(model, other.state_dict(), 'a.pth')
    assert torch.equal(model.weight, other.weight)


def test_load_strict_lists_every_kind_of_problem():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {'0.weight': torch.zeros(3, 2), '0.bias': torch.zeros(4), 'head.bias': torch.zeros(1)}
    before = model[0].weight.clone()
    with pytest.raises(CheckpointError) as caught:
        load_strict(model, state, 'a.pth')
    assert str(caught.value) == (
        "'a.pth' is a checkpoint of another model: 2 missing keys (1.weight, 1.bias); "
        '1 unexpected key (head.bias); 1 other shape (0.bias (4,) in the file, (3,) in the model); '
        'use it with the config that it was made with'
    )
    assert torch.equal(model[0].weight, before)


def test_load_strict_shortens():
    with pytest.raises(CheckpointError, match=r'5 unexpected keys \(k0, k1, k2, \.\.\.\)'):
        load_strict(nn.Identity(), {f'k{index}': torch.ones(1) for index in range(5)}, 'a.pth')


def test_load_strict_allows_prefixes():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {**nn.Linear(2, 3).state_dict(prefix='0.'), 'aux.weight': torch.ones(1)}
    load_strict(model, state, 'a.pth', allow_missing=('1.',), allow_unexpected=('aux.',))
    assert torch.equal(model[0].weight, state['0.weight'])
    with pytest.raises(CheckpointError, match=r'1 missing key \(1\.bias\)'):
        load_strict(model, state, 'a.pth', allow_missing=('1.weight',), allow_unexpected=('aux.',))
