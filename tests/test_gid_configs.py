"""The shipped GID recipes: stages, numbers of the paper, and networks that fit each other."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.hub import get_config

from castkd.apis.export_student import _castkd_types, _plain
from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs' / 'gid'
DETECTORS = {
    'gid_nuclei128_10pct': 'RetinaNet',
    'gid_retinanet_coco_10pct': 'RetinaNet',
    'gid_retinanet_coco': 'RetinaNet',
    'gid_fcos_coco': 'FCOS',
    'gid_faster_rcnn_coco': 'FasterRCNN',
    'gid_mask_rcnn_coco': 'MaskRCNN',
    'gid_retinanet_mobilenet_coco': 'RetinaNet',
    'gid_faster_rcnn_nuclei128_10pct': 'FasterRCNN',
    'gid_mask_rcnn_nuclei128_10pct': 'MaskRCNN',
    'gid_retinanet_voc': 'RetinaNet',
    'gid_fcos_voc': 'FCOS',
    'gid_faster_rcnn_voc': 'FasterRCNN',
}
WEIGHTS = dict(feature_weight=5e-4, relation_weight=40.0, class_weight=0.1, box_weight=1.0)
SEMI_SUPERVISED = 'gid_nuclei128_10pct', 'gid_retinanet_coco_10pct'
# Where networks start from random weights.
LIGHT_RELATION = dict(WEIGHTS, relation_weight=4.0)


@pytest.fixture(scope='module', params=DETECTORS)
def recipe(request):
    recipe = load_recipe(CONFIGS / f'{request.param}.py', cfg_options={'fraction': 0.05, 'seed': 3})
    return request.param, {stage.name: stage for stage in recipe.stages}


@pytest.fixture
def stages(recipe):
    return recipe[1]


def test_stages_and_what_they_take(stages):
    assert list(stages) == ['supervised', 'teacher', 'distill']
    check_configs({name: stage.config for name, stage in stages.items()}, 'gid')
    assert stages['distill'].uses == [('teacher', 'checkpoint')]
    for stage in stages.values():
        split = stage.config['train_dataloader']['dataset']['split']
        assert split == dict(fraction=0.05, seed=3)
        evaluator = stage.config['val_evaluator']
        of_voc = evaluator['type'] == 'mmdet.VOCMetric'
        assert evaluator['metric'] == 'mAP' if of_voc else 'bbox' in evaluator['metric']


def test_what_a_recipe_sets_arrives(recipe):
    name, stages = recipe
    rate = 2e-3 if 'nuclei128' in name else 0.02 if 'rcnn' in name else 0.01
    metric = 'mAP' if 'voc' in name else ['bbox', 'segm'] if 'mask' in name else 'bbox'
    for stage in stages.values():
        assert stage.config['optim_wrapper']['optimizer']['lr'] == rate
        assert stage.config['val_evaluator']['metric'] == metric
        assert stage.config['test_evaluator']['metric'] == metric


def test_a_teacher_has_images_of_the_size_it_is_said_to_have(stages):
    widths = [
        next(
            step['scale'][0]
            for step in stages[name].config['val_dataloader']['dataset']['pipeline']
            if step['type'] == 'mmdet.Resize'
        )
        for name in ('teacher', 'distill')
    ]
    scale = stages['distill'].config['model']['teachers']['big'].get('input_scale', 1.0)
    assert widths[0] == scale * widths[1]


def test_students_are_the_same_and_trained_alike(stages):
    plain, distilled = stages['supervised'].config, stages['distill'].config
    assert distilled['model']['student'] == plain['model']['student']
    teacher = distilled['model']['teachers']['big']['model']
    assert teacher == stages['teacher'].config['model']['student']
    for shared in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert distilled[shared] == plain[shared]
    counts = [
        config['train_dataloader']['batch_sampler']['counts'] for config in (plain, distilled)
    ]
    assert sum(counts[0].values()) == sum(counts[1].values())
    # At least half of the images are labelled.
    assert counts[1]['labeled'] >= counts[1].get('unlabeled', 0)


def test_networks_are_built_and_planned(recipe):
    """On the meta device: shapes and wiring without weights."""
    name, stages = recipe
    unlabelled = 'unlabeled' in stages['distill'].config['train_dataloader']['dataset']['sources']
    assert unlabelled == (name in SEMI_SUPERVISED)
    expected = {('big', 'sup'): 'dense', ('student', 'sup'): 'loss'}
    if unlabelled:
        # Each network once per image: labels come from the run that the student is compared with.
        expected |= {('big', 'unsup_teacher'): 'predict', ('student', 'unsup_student'): 'loss'}
    for stage_name, stage in stages.items():
        with torch.device('meta'):
            distiller = MODELS.build(copy.deepcopy(stage.config['model']))
        runs = {(item.network, item.view): item.kind for item in distiller.plan()}
        if stage_name != 'distill':
            assert runs == {('student', 'sup'): 'loss'}
            continue
        assert type(distiller.student).__name__ == DETECTORS[recipe[0]]
        assert runs == expected
        gid = distiller.objectives['gid']
        found = {
            key: getattr(gid, key, None) or getattr(gid.response, key, None) for key in WEIGHTS
        }
        assert found == (LIGHT_RELATION if 'nuclei128' in name else WEIGHTS)
        channels = [
            distiller.student.neck.out_channels,
            distiller.teachers['big'].model.neck.out_channels,
        ]
        assert [gid.adapter.in_channels, gid.adapter.conv.out_channels] == channels
        sizes = [
            sum(value.numel() for value in network.parameters())
            for network in (distiller.student, distiller.teachers['big'].model)
        ]
        assert 1.3 * sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ('name', 'published'),
    [
        ('retinanet', 'retinanet/retinanet_r101_fpn_2x_coco'),
        ('fcos', 'fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco'),
        ('faster_rcnn', 'faster_rcnn/faster-rcnn_r101_fpn_2x_coco'),
        ('mask_rcnn', 'mask_rcnn/mask-rcnn_r101_fpn_2x_coco'),
    ],
)
def test_mmdets_published_networks_can_teach(name, published):
    """The README's way to a teacher that need not be trained; that of FCOS wants other colours and centre-ness."""
    stage = load_recipe(CONFIGS / f'gid_{name}_coco.py').stages[-1]
    model = stage.config['model']
    network = get_config(f'mmdet::{published}.py').model.to_dict()
    model['teachers']['big']['model'] = dict(network, _scope_='mmdet')
    with torch.device('meta'):
        distiller = MODELS.build(model)
    assert ('big', 'sup', 'dense') in {
        (run.network, run.view, run.kind) for run in distiller.plan()
    }


def test_shipped_config_with_a_published_teacher():
    (stage,) = load_recipe(CONFIGS / 'coco/distill_published.py').stages
    assert stage.config['train_dataloader']['dataset']['split']['fraction'] == 1.0
    check_configs({stage.name: stage.config}, 'published')
    with torch.device('meta'):
        distiller = MODELS.build(stage.config['model'])
    assert distiller.teachers['big'].model.backbone.depth == 101
    assert distiller.student.backbone.depth == 50


def test_students_can_be_handed_over(stages):
    for stage in stages.values():
        assert list(_castkd_types(_plain(stage.config['model']['student']))) == []


def test_every_recipe_is_tested():
    assert {path.stem for path in CONFIGS.glob('gid_*.py')} == set(DETECTORS)


def test_ablation_switches_parts_off():
    recipe = load_recipe(CONFIGS / 'ablation_nuclei128_10pct.py')
    stages = {stage.name: stage.config for stage in recipe.stages}
    check_configs(stages, 'ablation')
    parts = dict(feature=['feature_weight'], relation=['relation_weight'])
    parts['response'] = ['class_weight', 'box_weight']
    rows = dict(labeled=list(parts), heavy_relation=list(parts))
    rows |= dict(feature_response=['feature', 'response'], **{name: [name] for name in parts})
    for name, kept in rows.items():
        config = stages[name]
        gid = config['model']['objectives']['gid']
        weights = {weight for part in kept for weight in parts[part]}
        assert {key for key in WEIGHTS if gid[key]} == weights, name
        assert config['train_dataloader'] == stages['supervised']['train_dataloader']
        assert config['model']['student'] == stages['supervised']['model']['student']
        assert 'unsup' not in config['model']['objectives']
    whole = stages['all_labels']
    assert whole['train_dataloader']['dataset']['split'] == dict(fraction=1.0, seed=0)
    assert whole['model'] == stages['supervised']['model']
    assert stages['heavy_relation']['model']['objectives']['gid']['relation_weight'] == 40.0
    alone = stages['pseudo_label']['model']
    assert not any(alone['objectives']['gid'][key] for key in WEIGHTS)
    assert alone['objectives']['unsup'] == stages['distill']['model']['objectives']['unsup']
    assert stages['unlabeled']['model']['objectives']['unsup']['weight'] == 0.0
    for name in ('pseudo_label', 'unlabeled', 'distill'):
        assert set(stages[name]['train_dataloader']['batch_sampler']['counts']) == {
            'labeled',
            'unlabeled',
        }
