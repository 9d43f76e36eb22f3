"""First weights as a checkpoint: a foundation model predicts without any training."""

import pytest
import torch
from mmengine.config import Config

from castkd.apis.first_weights import save_first_weights
from castkd.apis.predictor import load_predictor
from castkd.errors import CheckpointError, DataError
from castkd.registry import build_model
from tests.apis.tiny_project import CLASSES
from tests.builders import tiny_dinov2_mask2former
from tests.foundation import make_tokenizer, tiny_foundation

pytest.importorskip('transformers')


@pytest.fixture
def stage(project, tmp_path):
    """Config of a stage whose student is a foundation model, and its parts with the weights it starts from."""
    network = build_model(tiny_foundation(make_tokenizer(tmp_path / 'detector'), CLASSES))
    network.detector.network.save_pretrained(tmp_path / 'detector')
    network.segmenter.network.save_pretrained(tmp_path / 'segmenter')
    config = Config.fromfile(project.distiller_config)
    student = tiny_foundation('', CLASSES)
    student['detector'] = dict(
        type='castkd.GroundingDINO', classes=CLASSES, weights=str(tmp_path / 'detector')
    )
    student['segmenter'] = dict(type='castkd.SAM2', weights=str(tmp_path / 'segmenter'))
    config.model.student = student
    return config, network


def test_checkpoint_holds_what_the_network_starts_from(stage, project, tmp_path):
    config, network = stage
    out = save_first_weights(config, tmp_path / 'new' / 'zero_shot.pth')
    content = torch.load(out, weights_only=True)
    assert content['meta']['dataset_meta']['classes'] == CLASSES
    wanted = network.state_dict()
    assert content['state_dict'].keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in content['state_dict'].items())
    predictor = load_predictor(config, out)
    assert predictor.classes == CLASSES
    assert torch.equal(
        predictor.model.segmenter.network.no_memory_embedding,
        network.segmenter.network.no_memory_embedding,
    )


def test_weights_that_are_not_there_write_nothing(project, tmp_path):
    config = Config.fromfile(project.config)
    config.model = tiny_dinov2_mask2former(len(CLASSES), pretrained=str(tmp_path / 'nothing'))
    with pytest.raises(CheckpointError, match=r'config\.json and model\.safetensors'):
        save_first_weights(config, tmp_path / 'zero_shot.pth')
    assert not (tmp_path / 'zero_shot.pth').exists()


def test_a_place_that_cannot_be_written_is_one_line(project, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataError, match='first weights: cannot write'):
        save_first_weights(project.config, tmp_path / 'file' / 'zero_shot.pth')
