"""The choice of the images on a contact sheet and what stands below each cell."""

import os

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from castkd.apis import pictures
from castkd.apis.pictures import best_and_worst, recipe_pictures
from castkd.datasets.pseudo_store import encode_masks
from castkd.engine.manifest import DONE, Manifest, StageRecord
from castkd.engine.recipe import PSEUDO_LABEL, TRAIN, Recipe, Stage
from castkd.errors import ConfigError
from tests.apis.tiny_project import SIZES

LABELS = {'base': 'student, labels only', 'cast': 'student, CAST'}


def recipe_of(project, tmp_path, **options):
    """Return a recipe with two finished stages of the project's model, and its manifest."""
    stages = [Stage('base', TRAIN), Stage('label', PSEUDO_LABEL), Stage('cast', TRAIN)]
    recipe = Recipe(tmp_path / 'r.py', tmp_path, stages, report={'pictures': options})
    files = {'config': project.config, 'checkpoint': project.checkpoint}
    outputs = {name: {'path': os.path.relpath(file, tmp_path)} for name, file in files.items()}
    record = StageRecord(TRAIN, DONE, outputs=outputs)
    return recipe, Manifest(tmp_path, stages={'base': record, 'cast': record})


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of the contact sheets that were drawn."""
    calls = []

    def keep(*arguments):
        calls.append(arguments)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(pictures, 'contact_sheet', keep)
    return calls


# Instances that are found and false ones, per image of the project; each image has two.
FOUND = {0: (2, 0), 1: (1, 0), 2: (0, 0), 3: (2, 1), 4: (0, 1)}


class Oracle:
    """Predicts what FOUND says."""

    def batches(self, paths):
        for path in paths:
            yield self.predict_paths([path])

    def predict_paths(self, paths):
        return [self.predict(int(path.split('/')[-1].split('.')[0])) for path in paths]

    def predict(self, index):
        right, wrong = FOUND[index]
        masks = np.zeros((3, *SIZES[index]), bool)
        masks[0, 4:20, 4:24] = masks[1, 24:36, 10:30] = masks[2, 36:38] = True
        keep = [0, 1][:right] + [2][:wrong]
        labels = torch.tensor([0, 1, 0])[keep]
        predicted = InstanceData(
            masks=torch.from_numpy(masks)[keep],
            labels=labels,
            scores=torch.full((len(keep),), 0.9),
            bboxes=torch.zeros(len(keep), 4),
        )
        return DetDataSample(pred_instances=predicted)


def test_the_best_and_the_worst_images_of_the_last_stage(project, tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(pictures, 'load_predictor', lambda *arguments, **options: Oracle())
    content, note = recipe_pictures(*recipe_of(project, tmp_path, best=2, worst=2), LABELS)
    ((images, columns, metainfo, captions),) = drawn
    assert cv2.imdecode(np.frombuffer(content, np.uint8), 1).shape == (4, 4, 3)
    assert metainfo['classes'] == ('car', 'person')
    assert captions['image'] == [
        'best 1: 0.png',
        'best 2: 3.png',
        'worst 1: 2.png',
        'worst 2: 4.png',
    ]
    assert [image.shape[:2] for image in images] == [SIZES[index] for index in (0, 3, 2, 4)]
    assert list(columns) == ['truth', 'student, labels only', 'student, CAST']
    assert captions['truth'] == ['2 instances'] * 4
    # Of 2 right and 1 wrong for 2 real ones: 2 * 2 / (3 + 2).
    assert captions['student, CAST'] == [
        'F1 1.00, 2 instances',
        'F1 0.80, 3 instances',
        'F1 0.00, 0 instances',
        'F1 0.00, 1 instance',
    ]
    assert note.startswith('4 of 5 validation images: those on which the last column')
    assert encode_masks(columns['student, CAST'][0].masks) == encode_masks(
        columns['truth'][0].masks.masks
    )


def test_evenly_spaced_images_with_the_real_model(project, tmp_path, drawn):
    recipe, manifest = recipe_of(project, tmp_path, num=3, score_thr=0.2, stages=['cast'])
    _, note = recipe_pictures(recipe, manifest, LABELS)
    ((images, columns, _, captions),) = drawn
    assert captions['image'] == ['0.png', '2.png', '4.png']
    assert list(columns) == ['truth', 'student, CAST']
    assert all((found.scores > 0.2).all() for found in columns['student, CAST'])
    assert all(text.startswith('F1 0.') for text in captions['student, CAST'])
    assert note == '3 validation images; predictions with a score above 0.2'
    assert len(images) == 3


def test_no_pictures_when_none_are_wanted(project, tmp_path, drawn):
    recipe, manifest = recipe_of(project, tmp_path, num=0)
    assert recipe_pictures(recipe, manifest, LABELS) == (None, 'no pictures were asked for')
    assert drawn == []


def test_a_stage_without_a_network_cannot_have_a_column(project, tmp_path):
    recipe, _ = recipe_of(project, tmp_path, stages=['label'])
    with pytest.raises(
        ConfigError, match="stages: no training stage 'label'; known: 'base', 'cast'"
    ):
        pictures.picture_options(recipe)


def test_an_image_is_not_both_and_one_without_a_score_is_neither():
    scores = [0.5, None, 0.9, 0.5, 0.1]
    assert best_and_worst(scores, 2, 2) == {
        2: 'best 1: ',
        0: 'best 2: ',
        4: 'worst 1: ',
        3: 'worst 2: ',
    }
    assert best_and_worst(scores, 3, 9) == {
        2: 'best 1: ',
        0: 'best 2: ',
        3: 'best 3: ',
        4: 'worst 1: ',
    }
    assert best_and_worst([None], 1, 1) == {}
