"""The shipped TransKD recipes: stages, networks that fit each other, numbers of the paper, and the protocol's maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import PolyLR, build_optim_wrapper
from mmengine.registry import DATASETS, PARAM_SCHEDULERS, DefaultScope
from torch import nn

from castkd.architectures import stage_channels
from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import build_model
from tests.builders import make_map_sample
from tests.datasets.test_loaders import relocated
from tests.semantic_fixtures import make_cityscapes

CONFIGS = Path(__file__).parents[1] / 'configs' / 'transkd'
CLASSES = {
    'transkd_camvid': 11,
    'transkd_segformer_cityscapes_paper': 19,
    'transkd_segformer_cityscapes': 19,
    'transkd_pvt_cityscapes': 19,
    'transkd_pvt_cityscapes_paper': 19,
    'transkd_segformer_ade20k': 150,
}
VARIANTS = ('base', 'gl', 'ea')
JITTER = 'PhotoMetricDistortion'


def stages_of(name):
    return {stage.name: stage for stage in load_recipe(CONFIGS / f'{name}.py').stages}


def test_every_recipe_is_tested():
    assert {path.stem for path in CONFIGS.glob('*.py')} == {
        *CLASSES,
        'study_camvid',
        'study_camvid_16',
    }


@pytest.mark.parametrize('name', CLASSES)
def test_stages_share_their_networks(name):
    stages = stages_of(name)
    assert list(stages) == ['teacher', 'supervised', *VARIANTS]
    check_configs({stage.name: stage.config for stage in stages.values()}, name)
    models = {key: stage.config['model'] for key, stage in stages.items()}
    student, teacher = models['supervised']['student'], models['teacher']['student']
    for network in (student, teacher):
        assert network['decode_head']['num_classes'] == CLASSES[name]
        expected = 'PyramidVision' if 'pvt' in name else 'MixVision'
        assert expected in network['backbone']['type']
        assert ('neck' in network) == ('pvt' in name)
    for key in VARIANTS:
        assert models[key]['student'] == student
        assert models[key]['teachers']['big']['model'] == teacher
        assert stages[key].uses == [('teacher', 'checkpoint')]
        objective = models[key]['objectives']['transkd']
        for side, network in (('student', student), ('teacher', teacher)):
            widths = stage_channels(network['backbone']['embed_dims'])
            assert objective[f'{side}_channels'] == widths
        assert ('mixer' in objective) == (key == 'gl')
        assert ('assistant' in objective) == (key == 'ea')
        assert objective['embedding_weights'] == (0.1, 0.1, 0.5, 1.0)
        loader = stages[key].config['train_dataloader']
        norm = objective['fusion']['bottleneck_norm']
        assert norm == ('switch' if loader['batch_size'] >= 8 else 'none')
        assert loader['batch_sampler']['counts'] == {'labeled': loader['batch_size']}
        assert list(loader['dataset']['sources']) == ['labeled']
        for other in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert stages[key].config[other] == stages['supervised'].config[other]


@pytest.mark.parametrize('name', CLASSES)
def test_colours_change_where_mmseg_changes_them(name):
    """Last of what all networks of the recipe see; the published code leaves colours alone, and so does CamVid."""
    pipelines = [
        stage.config['train_dataloader']['dataset']['sources']['labeled']['pipeline']
        for stage in stages_of(name).values()
    ]
    assert all(pipeline == pipelines[0] for pipeline in pipelines)
    kinds = [step['type'].split('.')[-1] for step in pipelines[0]]
    own = [] if 'paper' in name or 'camvid' in name else ['RandomCrop', 'RandomFlip', JITTER]
    assert kinds[-len(own) - 1 : -1] == own
    assert (JITTER in kinds) == bool(own)
    assert kinds[-1] == 'MultiBranch'


def test_camvid_study_gives_all_students_the_same():
    recipe = load_recipe(CONFIGS / 'study_camvid.py')
    stages = {stage.name: stage for stage in recipe.stages}
    check_configs({name: stage.config for name, stage in stages.items()}, 'study')
    rows = ['supervised', 'kd', 'cwd', *VARIANTS, 'teacher']
    assert [row['stage'] for row in recipe.report['rows']] == rows
    assert set(stages) == set(rows)
    plain = stages['supervised'].config
    for name in ('kd', 'cwd', *VARIANTS):
        config = stages[name].config
        assert stages[name].uses == [('teacher', 'checkpoint')]
        assert config['model']['student'] == plain['model']['student']
        assert (
            config['model']['teachers']['big']['model']
            == (stages['teacher'].config['model']['student'])
        )
        for shared in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert config[shared] == plain[shared]


def test_cwd_row_fits_its_networks(tmp_path):
    """One step on one pair of images: taps are reached, widths fit."""
    model = stages_of('study_camvid')['cwd'].config['model']
    teacher = build_model(model['teachers']['big']['model'])
    torch.save({'state_dict': teacher.state_dict(), 'meta': {}}, tmp_path / 'teacher.pth')
    model['teachers']['big'].update(
        checkpoint=str(tmp_path / 'teacher.pth'), classes=model['classes']
    )
    distiller = build_model(model)
    distiller.init_weights()
    samples = [make_map_sample(torch.randint(0, 11, (64, 64)).numpy()) for _ in range(2)]
    losses = distiller({'sup': torch.randn(2, 3, 64, 64)}, {'sup': samples}, mode='loss')
    names = {'sup.decode.loss_ce', *(f'{name}.loss_sup' for name in ('kd', 'cwd', 'cwd_feature'))}
    assert names <= set(losses)
    assert all(losses[name] > 0 for name in names)


@pytest.mark.parametrize(
    ('name', 'stage', 'training', 'deployed'),
    [
        # The decoder of mmseg has 767 parameters more than that of the published code (its norms), and one class less.
        ('transkd_segformer_cityscapes_paper', 'gl', 5_219_254 + 767, 3_720_051),
        ('transkd_pvt_cityscapes', 'ea', 7_527_539 + 193_536 + 643_968 + 970_952, 7_527_539),
    ],
)
def test_published_sizes(name, stage, training, deployed):
    distiller = build_model(stages_of(name)[stage].config['model'])
    parameters = [value.numel() for value in distiller.parameters()]
    assert sum(parameters) == training
    assert sum(value.numel() for value in distiller.student.parameters()) == deployed
    runs = {(item.network, item.view, item.kind) for item in distiller.plan()}
    assert runs == {('big', 'sup', 'encode'), ('student', 'sup', 'loss')}


def test_shapes_at_the_published_size():
    """B0 beside B2 on two images of 512 x 1024; the student's maps and tokens as published, here without values."""
    sizes = [(128, 256), (64, 128), (32, 64), (16, 32)]
    model = stages_of('transkd_segformer_cityscapes_paper')['base'].config['model']
    student = build_model(model['student']).backbone.to('meta').eval()
    connectors = build_model(model['objectives']['transkd']).to('meta')
    tokens = []
    for stage in student.layers:
        stage[0].register_forward_hook(lambda _, inputs, output: tokens.append(output[0]))
    features = student(torch.empty(2, 3, 512, 1024, device='meta'))
    for value, width, size in zip(features, (32, 64, 160, 256), sizes, strict=True):
        assert value.shape == (2, width, *size)
    wanted = (64, 128, 320, 512)
    for value, width, size in zip(connectors.fusion(features), wanted, sizes, strict=True):
        assert value.shape == (2, width, *size)
    for value, width, size in zip(connectors.alignment(tokens), wanted, sizes, strict=True):
        assert value.shape == (2, size[0] * size[1], width)


class Parts(nn.Module):
    """Parameters with the names that the schedules tell apart."""

    def __init__(self):
        super().__init__()
        self.student = nn.Module()
        self.student.backbone = nn.ModuleDict({'proj': nn.Linear(1, 1), 'norm1': nn.LayerNorm(1)})
        self.student.decode_head = nn.Linear(1, 1)
        channels = dict(student_channels=(4,) * 4, teacher_channels=(4,) * 4)
        self.objective = build_model(
            dict(
                type='castkd.TransKD',
                teacher='big',
                **channels,
                fusion=dict(type='castkd.CrossSelectiveFusion'),
                alignment=dict(type='castkd.PatchEmbeddingAlignment'),
                mixer=dict(type='castkd.GlobalLocalMixer', num_heads=1),
                assistant=dict(type='castkd.EmbeddingAssistant'),
            )
        )


def rates_and_decays(schedule):
    model = Parts()
    names = {value: name for name, value in model.named_parameters()}
    return {
        names[value]: (group['lr'], group['weight_decay'])
        for group in build_optim_wrapper(model, schedule.optim_wrapper).optimizer.param_groups
        for value in group['params']
    }


@pytest.mark.parametrize('name', ['transkd', 'segformer'])
def test_scalars_do_not_decay_and_connectors_train_like_the_backbone(name):
    path = CONFIGS.parent / '_base_' / 'schedules' / f'adamw_{name}.py'
    for parameter, (rate, decay) in rates_and_decays(Config.fromfile(path)).items():
        still = parameter.endswith(('_scale', 'global_weight', 'local_weight'))
        if name == 'segformer':
            still = still or '.norm' in parameter
            assert rate == pytest.approx(6e-4 if 'decode_head' in parameter else 6e-5), parameter
        else:
            assert rate == 6e-5
        assert decay == (0.0 if still else 0.01), parameter


def test_rate_of_the_published_code_ends_at_a_third():
    config = stages_of('transkd_segformer_cityscapes_paper')['base'].config
    (entry,) = config['param_scheduler']
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=6e-5)
    schedule = PARAM_SCHEDULERS.build({**entry, 'end': 101}, default_args={'optimizer': optimizer})
    assert isinstance(schedule, PolyLR)
    rates = []
    for _ in range(100):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]['lr'])
    assert rates[49] == pytest.approx(4e-5)
    assert rates[99] == pytest.approx(2e-5)


@pytest.fixture
def mmseg_scope():
    DefaultScope.get_instance('transkd', scope_name='mmseg')
    yield
    DefaultScope._instance_dict.pop('transkd')


@pytest.mark.usefixtures('mmseg_scope')
def test_paper_protocol_compares_maps_of_a_quarter(tmp_path):
    root = tmp_path / 'data'
    truth = make_cityscapes(root)
    config = stages_of('transkd_segformer_cityscapes_paper')['base'].config
    moved = relocated(config, 'data/cityscapes/', f'{root}/')
    trained = DATASETS.build(moved['train_dataloader']['dataset']['sources']['labeled'])[0]
    tested = DATASETS.build(moved['val_dataloader']['dataset'])[0]
    items = [(trained['inputs']['sup'], trained['data_samples']['sup'])]
    items.append((tested['inputs'], tested['data_samples']))
    for image, sample in items:
        height, width = image.shape[1:]
        assert height == 512
        assert sample.gt_sem_seg.shape == (128, -(-width // 4))
        assert sample.ori_shape == sample.gt_sem_seg.shape
    labels = truth['val'][Path(sample.img_path).name]
    rows, columns = (
        ((np.arange(cells) + 0.5) * length / cells).astype(int)
        for cells, length in zip(sample.ori_shape, labels.shape, strict=True)
    )
    assert np.array_equal(sample.gt_sem_seg.data[0], labels[rows[:, None], columns])
