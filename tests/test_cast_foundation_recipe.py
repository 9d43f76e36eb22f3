"""Stages 1a to 1c of a recipe in the paper's size, with a foundation teacher made tiny."""

import json
from pathlib import Path

import pytest

from castkd.apis.train import train
from castkd.datasets.pseudo_store import read_pseudo_labels
from tests.datasets.test_loaders import make_cityscapes
from tests.foundation import detector_config, make_tokenizer, tiny_foundation

pytest.importorskip('transformers')
RECIPE = Path(__file__).parents[1] / 'configs' / 'cast' / 'cast_cityscapes.py'
CLASSES = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
RESIZE = dict(type='mmdet.Resize', scale=(160, 80), keep_ratio=True)
SOURCES = 'train_dataloader.dataset.sources'


def options(tokenizer):
    teacher = tiny_foundation(
        tokenizer,
        CLASSES,
        config=detector_config(max_text_len=48),
        max_per_image=5,
        synonyms={'rider': ['human', 'person']},
    )
    found = {
        'fraction': 0.5,
        'train_cfg.max_iters': 2,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.logger.interval': 1,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_dataloader.batch_size': 2,
        'label_adapted.score_thr': 0.0,
    }
    for loader in ('val', 'test'):
        found[f'{loader}_dataloader.num_workers'] = 0
        found[f'{loader}_dataloader.persistent_workers'] = False
        found[f'{loader}_dataloader.dataset.pipeline.1.scale'] = (160, 80)
    for stage, counts in (('adapt', dict(labeled=2)), ('self_train', dict(labeled=1, unlabeled=1))):
        found[f'{stage}.model.student'] = dict(_delete_=True, **teacher)
        found[f'{stage}.model.objectives.cast.projector.in_channels'] = 64
        for source, count in counts.items():
            found[f'{stage}.train_dataloader.batch_sampler.counts.{source}'] = count
            found[f'{stage}.{SOURCES}.{source}.pipeline.3.transforms'] = [[RESIZE]]
    return found


@pytest.mark.slow
def test_teacher_is_adapted_labels_and_is_trained_again(tmp_path, monkeypatch):
    make_cityscapes(tmp_path / 'data' / 'cityscapes')
    monkeypatch.chdir(tmp_path)
    stages = ['adapt', 'label_adapted', 'self_train']
    given = options(make_tokenizer(tmp_path / 'tokenizer'))
    train(RECIPE, stage=stages, work_dir=tmp_path / 'work', cfg_options=given)
    manifest = json.loads((tmp_path / 'work' / 'recipe.json').read_text())
    assert {name: manifest['stages'][name]['state'] for name in stages} == dict.fromkeys(
        stages, 'done'
    )
    # Both evaluators take its instances, and no image is skipped.
    assert {'coco/segm_mAP', 'cityscapes/mAP'} <= set(manifest['stages']['adapt']['metrics'])
    labels = read_pseudo_labels(tmp_path / 'work' / 'label_adapted' / 'annotations.json')
    assert labels.classes == CLASSES
    assert len(labels.images) == 6
    assert labels.info['num_instances'] > 0
    log = next((tmp_path / 'work' / 'self_train').glob('*/vis_data/scalars.json')).read_text()
    names = set(json.loads(log.splitlines()[0]))
    assert {'sup.loss_cls', 'unsup.loss_focal', 'cast.loss_pixel'} <= names
