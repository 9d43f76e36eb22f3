"""The recipes of CAST in the paper's size: stages, networks that fit each other, numbers of the paper, images."""

from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, DefaultScope

from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import build_model
from tests.datasets.test_loaders import make_cityscapes, relocated
from tests.foundation import make_tokenizer, tiny_foundation

pytest.importorskip('transformers')
CONFIGS = Path(__file__).parents[1] / 'configs' / 'cast'
# Classes, student's iterations, rate and decay, iterations of the teacher.
EXPECTED = {
    'cityscapes': (8, 90_000, 5e-5, 0.1, 1000),
    'ade20k': (100, 160_000, 1e-4, 0.05, 10_000),
    'coco': (80, 368_750, 1e-4, 0.05, 10_000),
}
VARIANTS = ('', '_resnet50', '_segmentor')
RECIPES = [f'cast_{data}{variant}' for data in EXPECTED for variant in VARIANTS]
RECIPES.append('cast_cityscapes_swin')
STAGES = [
    'supervised',
    'adapt',
    'label_adapted',
    'self_train',
    'label_self_trained',
    'distill',
    'finetune',
]


@pytest.fixture(scope='module')
def recipes():
    """Stages per recipe, read when first asked for."""
    read = {}

    def stages_of(name):
        if name not in read:
            recipe = load_recipe(CONFIGS / f'{name}.py')
            read[name] = {stage.name: stage for stage in recipe.stages}
        return read[name]

    return stages_of


def test_every_recipe_is_tested():
    found = {path.stem for path in CONFIGS.glob('cast_*.py')}
    assert found - {'cast_nuclei128_2pct'} == set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_stages_have_the_networks_and_the_schedule(recipes, name):
    data = name.split('_')[1]
    classes, iterations, rate, decay, adaptation = EXPECTED[data]
    stages = recipes(name)
    assert list(stages) == STAGES
    trained = {key: stage.config for key, stage in stages.items() if 'label' not in key}
    check_configs(trained, name)
    models = {key: config['model'] for key, config in trained.items()}
    student = models['supervised']['student']
    assert models['distill']['student'] == models['finetune']['student'] == student
    assert models['adapt']['student'] == models['self_train']['student'] != student
    assert student['panoptic_head']['num_things_classes'] == classes
    for key, config in trained.items():
        teacher = key in ('adapt', 'self_train')
        labels_only = key in ('supervised', 'adapt', 'finetune')
        counts = config['train_dataloader']['batch_sampler']['counts']
        assert counts == ({'labeled': 8} if labels_only else {'labeled': 4, 'unlabeled': 4})
        assert config['train_dataloader']['dataset']['split'] == {'fraction': 0.1, 'seed': 0}
        assert len(config['model']['classes']) == classes
        optimizer = config['optim_wrapper']['optimizer']
        if teacher and 'segmentor' not in name:
            assert (optimizer['lr'], optimizer['weight_decay']) == (5e-5, 0.01)
            assert config['optim_wrapper']['clip_grad']['max_norm'] == 0.1
            assert config['train_cfg']['max_iters'] == adaptation
        else:
            factor = 0.1 if key == 'finetune' else 1
            assert optimizer['lr'] == pytest.approx(rate * factor)
            assert optimizer['weight_decay'] == decay
            assert config['optim_wrapper']['clip_grad']['max_norm'] == 0.01
            assert config['train_cfg']['max_iters'] == iterations * factor
        objectives = config['model']['objectives']
        contrasted = key in ('adapt', 'self_train', 'distill')
        assert ('cast' in objectives) == contrasted
        assert ('unsup' in objectives) == (not labels_only)
        if contrasted:
            assert objectives['cast']['weight'] == 0.1
    assert stages['self_train'].uses == [('label_adapted', 'annotations')]
    assert stages['distill'].uses == [('label_self_trained', 'annotations')]
    assert stages['finetune'].uses == [('distill', 'checkpoint')]


@pytest.mark.parametrize(
    ('name', 'millions'),
    [
        ('cast_cityscapes', 51.6),
        ('cast_ade20k', 51.7),
        ('cast_coco_resnet50', 44.0),
        ('cast_cityscapes_swin', 47.4),
    ],
)
def test_students_have_the_published_size(recipes, name, millions):
    config = recipes(name)['distill'].config['model']
    # mmdet's Swin transformer computes with its own numbers when it is built.
    with torch.device('cpu' if 'swin' in name else 'meta'):
        model = build_model(config)
    parameters = sum(value.numel() for value in model.student.parameters())
    assert round(parameters / 1e6, 1) == millions
    width = model.objectives['cast'].projector.in_channels
    assert width == (2048 if 'resnet50' in name else 768)
    stage = model.student.panoptic_head.pixel_decoder
    plain = name.endswith(('resnet50', 'swin'))
    assert type(stage).__name__ == ('MSDeformAttnPixelDecoder' if plain else 'DPTPixelDecoder')


def test_the_other_teacher_is_contrasted_as_a_segmentor(recipes):
    config = recipes('cast_cityscapes_segmentor')['adapt'].config['model']
    with torch.device('meta'):
        model = build_model(config)
    objective = model.objectives['cast']
    assert objective.projector.in_channels == 2048
    assert objective.feature == 'backbone[3]'
    assert model.student.backbone.depth == 101
    assert [(item.view, item.kind) for item in model.plan()] == [
        ('sup', 'loss'),
        ('sup_strong', 'encode'),
    ]


@pytest.mark.parametrize('data', EXPECTED)
def test_the_foundation_teacher_is_that_of_the_paper(recipes, data):
    model = recipes(f'cast_{data}')['self_train'].config['model']
    teacher = model['student']
    assert teacher['type'] == 'castkd.FoundationSegmentor'
    assert 'mm_grounding_dino_large' in teacher['detector']['weights']
    assert teacher['detector']['classes'] == tuple(model['classes'])
    # The last stage of Swin-L.
    assert model['objectives']['cast']['projector']['in_channels'] == 1536


def test_rates_of_the_teacher(recipes, tmp_path):
    config = recipes('cast_cityscapes')['adapt'].config
    model = torch.nn.Module()
    model.student = build_model(tiny_foundation(make_tokenizer(tmp_path)))
    names = {value: name for name, value in model.named_parameters()}
    wrapper = build_optim_wrapper(model, config['optim_wrapper'])
    found = {
        names[value]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for value in group['params']
    }
    for name, values in found.items():
        if name.startswith('student.segmenter.'):
            expected = (1e-5, 0.1)
        elif 'model.backbone.' in name:
            expected = (5e-6, 0.01)
        elif 'text_backbone' in name:
            continue
        else:
            expected = (5e-5, 0.01)
        assert values == pytest.approx(expected), name


def test_the_teacher_learns_on_images_as_detr_augments_them(recipes, tmp_path):
    root = tmp_path / 'data'
    make_cityscapes(root)
    config = recipes('cast_cityscapes')['adapt'].config
    moved = relocated(config, 'data/cityscapes/', f'{root}/')
    with DefaultScope.overwrite_default_scope('mmdet'):
        labeled = DATASETS.build(moved['train_dataloader']['dataset']['sources']['labeled'])
        items = [labeled[index % len(labeled)] for index in range(6)]
    for item in items:
        weak, strong = item['inputs']['sup'], item['inputs']['sup_strong']
        assert weak.shape == strong.shape
        assert weak.dtype == strong.dtype == torch.uint8
        assert 480 <= min(weak.shape[1:]) <= 800
        assert max(weak.shape[1:]) <= 1333
        sample = item['data_samples']['sup']
        assert sample.gt_instances.masks.masks.shape[1:] == weak.shape[1:]
        assert torch.linalg.det(torch.as_tensor(sample.homography_matrix)) > 0 or sample.flip


def test_one_set_is_one_run_of_the_student():
    recipe = load_recipe(CONFIGS / 'study_nuclei128_2pct.py')
    config = next(stage.config for stage in recipe.stages if stage.name == 'one_set')
    sources = config['train_dataloader']['dataset']['sources']
    assert sources['unlabeled']['pipeline'] == sources['labeled']['pipeline']
    assert sources['unlabeled']['filter_cfg'] == {'filter_empty_gt': True}
    assert config['train_dataloader']['batch_sampler']['counts'] == {'labeled': 2, 'unlabeled': 6}
    runs = build_model(config['model']).plan()
    assert [(run.network, run.view, run.kind) for run in runs] == [('student', 'sup', 'loss')]
