"""Pseudo-labels of a foundation teacher by the tool's function, from its config and a checkpoint."""

import pytest
import torch
from mmengine.config import Config

from castkd.apis.pseudo_label import generate_pseudo_labels
from castkd.datasets.pseudo_store import decode_masks, read_pseudo_labels
from castkd.registry import build_model
from tests.apis.tiny_project import CLASSES, SIZES
from tests.foundation import make_tokenizer, tiny_foundation

pytest.importorskip('transformers')


def test_labels_have_both_scores_and_masks_of_the_images(project, tmp_path):
    config = Config.fromfile(project.config)
    config.model = tiny_foundation(make_tokenizer(tmp_path / 'tokenizer'), CLASSES)
    # So small a network wants images of several cells.
    config.test_dataloader.dataset.pipeline[1].scale = (128, 128)
    model = build_model(config.model)
    checkpoint = tmp_path / 'teacher.pth'
    meta = {'dataset_meta': {'classes': CLASSES}}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, checkpoint)
    summary = generate_pseudo_labels(
        config, checkpoint, project.images, tmp_path / 'labels.json', score_thr=0.0, device='cpu'
    )
    labels = read_pseudo_labels(tmp_path / 'labels.json')
    assert labels.classes == CLASSES
    assert [(image['height'], image['width']) for image in labels.images] == list(SIZES)
    found = [item for image in labels.images for item in image['annotations']]
    assert len(found) == summary['num_instances'] > 0
    assert all(0 <= item['mask_score'] <= item['score'] <= 1 for item in found)
    for image, size in zip(labels.images, SIZES, strict=True):
        assert decode_masks(image).shape[1:] == size
