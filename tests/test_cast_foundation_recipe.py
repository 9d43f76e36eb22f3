"""A recipe in the paper's size from its first stage to the exported student, with networks and images made tiny."""

import json
from pathlib import Path

import pytest

from castkd.apis import export_student
from castkd.apis.test import test as evaluate
from castkd.apis.train import train
from castkd.datasets.pseudo_store import read_pseudo_labels
from tests.builders import tiny_dinov2_mask2former
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
    student = tiny_dinov2_mask2former(len(CLASSES))
    for stage, counts in (
        ('supervised', dict(labeled=2)),
        ('distill', dict(labeled=1, unlabeled=1)),
        ('finetune', dict(labeled=2)),
    ):
        found[f'{stage}.model.student'] = dict(_delete_=True, **student)
        for source, count in counts.items():
            found[f'{stage}.train_dataloader.batch_sampler.counts.{source}'] = count
            pipeline = f'{stage}.{SOURCES}.{source}.pipeline'
            found[f'{pipeline}.2.scales'] = [80]
            found[f'{pipeline}.3.crop_size'] = (112, 56)
    found['distill.model.objectives.cast.projector.in_channels'] = 24
    found['label_self_trained.score_thr'] = 0.0
    return found


STAGES = (
    'supervised',
    'adapt',
    'label_adapted',
    'self_train',
    'label_self_trained',
    'distill',
    'finetune',
)


def first_log(folder):
    log = next(folder.glob('*/vis_data/scalars.json')).read_text()
    return set(json.loads(log.splitlines()[0]))


@pytest.mark.slow
def test_every_stage_runs_and_its_student_is_tested_and_exported(tmp_path, monkeypatch):
    make_cityscapes(tmp_path / 'data' / 'cityscapes')
    monkeypatch.chdir(tmp_path)
    work = tmp_path / 'work'
    given = options(make_tokenizer(tmp_path / 'tokenizer'))
    train(RECIPE, work_dir=work, cfg_options=given)
    stages = json.loads((work / 'recipe.json').read_text())['stages']
    assert {name: stage['state'] for name, stage in stages.items()} == dict.fromkeys(STAGES, 'done')
    for name in ('supervised', 'adapt', 'self_train', 'distill', 'finetune'):
        # Both evaluators take the instances of teacher and student, and no image is skipped.
        assert {'coco/segm_mAP', 'cityscapes/mAP'} <= set(stages[name]['metrics'])
    for name in ('label_adapted', 'label_self_trained'):
        labels = read_pseudo_labels(work / name / 'annotations.json')
        assert labels.classes == CLASSES
        assert len(labels.images) == 6
        assert labels.info['num_instances'] > 0
    assert {'sup.loss_cls', 'unsup.loss_focal', 'cast.loss_pixel'} <= first_log(work / 'self_train')
    assert {'sup.loss_cls', 'unsup.loss_mask', 'cast.loss_pixel'} <= first_log(work / 'distill')
    assert (work / 'report.html').is_file()
    config, checkpoint = work / 'finetune' / 'config.py', work / 'finetune' / 'iter_2.pth'
    exported = export_student(config, checkpoint, tmp_path / 'student')
    found = [
        evaluate(path, weights, work_dir=tmp_path / f'test{index}')
        for index, (path, weights) in enumerate(
            [(config, checkpoint), (exported['config'], exported['checkpoint'])]
        )
    ]
    assert found[0] == found[1] == stages['finetune']['metrics']
