"""Weights of the transformers library: where they are looked for, and what is said when they are not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from castkd.errors import CheckpointError
from castkd.hub import load_pretrained

library = pytest.importorskip('transformers')
TINY = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28)


def network(**options):
    return library.Dinov2Backbone(library.Dinov2Config(**{**TINY, **options}))


def test_weights_come_from_a_folder(tmp_path):
    source, target = network(), network()
    source.save_pretrained(tmp_path)
    assert not torch.equal(source.embeddings.cls_token, target.embeddings.cls_token)
    load_pretrained(target, str(tmp_path), 'Test')
    wanted, got = source.state_dict(), target.state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(value, got[key]) for key, value in wanted.items())


def test_weights_of_a_whole_model_fit_its_backbone(tmp_path):
    """The public files are of the model, not of the backbone class, and have a pooling head of their own."""
    source, target = library.Dinov2Model(library.Dinov2Config(**TINY)), network()
    source.save_pretrained(tmp_path)
    load_pretrained(target, str(tmp_path), 'Test')
    assert torch.equal(source.layernorm.weight, target.layernorm.weight)
    last = 'encoder.layer.3.mlp.fc2.weight'
    assert torch.equal(source.get_parameter(last), target.get_parameter(last))


@pytest.mark.parametrize('options', [dict(hidden_size=32), dict(num_hidden_layers=8)])
def test_weights_of_another_size_are_one_line(tmp_path, options):
    network().save_pretrained(tmp_path)
    target = network(**options)
    before = target.embeddings.cls_token.clone()
    with pytest.raises(CheckpointError, match=r'^Test: .*weights') as caught:
        load_pretrained(target, str(tmp_path), 'Test')
    assert '\n' not in str(caught.value)
    assert torch.equal(before, target.embeddings.cls_token)


@pytest.mark.parametrize('missing', ['config.json', 'model.safetensors', ''])
def test_a_folder_of_another_layout_names_the_files(tmp_path, missing):
    folder = tmp_path / 'weights'
    if missing:
        network().save_pretrained(folder)
        (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=r'config\.json and model\.safetensors') as caught:
        load_pretrained(network(), str(folder), 'Test')
    kind = 'lacks them' if missing else 'is no folder'
    assert kind in str(caught.value)


def test_a_name_without_network_is_one_line(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_OFFLINE', True)
    with pytest.raises(
        CheckpointError, match=r"weights of 'castkd/no-such-model', no folder here"
    ) as caught:
        load_pretrained(network(), 'castkd/no-such-model', 'Test')
    assert '\n' not in str(caught.value)
    assert 'config.json and model.safetensors' in str(caught.value)


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name == 'transformers':
            raise ModuleNotFoundError(name)

import castkd
assert 'transformers' not in sys.modules
sys.meta_path.insert(0, Block())
from castkd.hub import MissingExtraError, transformers
try:
    transformers('Owner')
except MissingExtraError as error:
    print(error)
"""


def test_a_missing_library_is_one_line_and_castkd_does_not_import_it():
    done = subprocess.run(
        [sys.executable, '-c', BLOCKED],
        env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith('Owner needs the transformers library, which is not installed')
    assert "pip install -e '.[vfm]'" in line
