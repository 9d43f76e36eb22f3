"""The recipes of LAD: every one resolves, and builds the networks and weights that its README promises."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from castkd import architectures
from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import build_model
from castkd.semantic import IGNORE
from castkd.teachers.label_assisted import LabelAssistance
from tests.builders import make_map_sample

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / 'configs' / 'lad').glob('lad_*_*.py'))
HEADS = {
    'fcn': 'FCNHead',
    'pspnet': 'PSPHead',
    'deeplabv3': 'ASPPHead',
    'stdc': 'FCNHead',
    'ocrnet': 'OCRHead',
}
CLASSES = {'voc2012aug': 21, 'cityscapes': 19, 'ade20k': 150}
# Losses of STDC's heads that learn classes.
HEADS_OF_CLASSES = ('.decode.loss_ce', '.aux_0.loss_ce', '.aux_1.loss_ce')


def stages_of(path):
    return {stage.name: stage for stage in load_recipe(path).stages}


def last_head(network):
    heads = network['decode_head']
    return heads[-1] if isinstance(heads, list) else heads


def test_five_networks_on_three_data_sets():
    names = {path.stem for path in RECIPES}
    assert names == {f'lad_{network}_{data}' for network in HEADS for data in CLASSES}


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: path.stem)
def test_stages_have_the_network_of_the_recipe(path):
    _, network, data = path.stem.split('_')
    stages = stages_of(path)
    check_configs({name: stage.config for name, stage in stages.items()}, path.name)
    student, teacher = (stages[name].config['model'] for name in ('student', 'teacher'))
    networks = [
        stages['supervised'].config['model']['student'],
        student['student'],
        teacher['student'],
        student['teachers']['twin']['model'],
    ]
    for config in networks:
        assert last_head(config)['type'] == HEADS[network]
        assert last_head(config)['num_classes'] == CLASSES[data]
        assert ('num_stages' in config) == (network == 'ocrnet')
    assert networks[0] == networks[1]
    assert networks[2] == networks[3]
    added = {'type', 'test_noise'}
    assert {key: value for key, value in networks[2].items() if key not in added} == {
        key: value for key, value in networks[0].items() if key not in added
    }
    assert networks[2]['test_noise']['mode'] == ('random' if data == 'ade20k' else 'fixed')
    assert stages['student'].uses == [('teacher', 'checkpoint')]


def test_auxiliary_weight_of_the_released_student():
    """The command of the README: both rows of the student, not the teacher."""
    option = {'network.auxiliary_head.loss_decode.loss_weight': 0.02}
    path = ROOT / 'configs' / 'lad' / 'lad_pspnet_voc2012aug.py'
    stages = load_recipe(path, cfg_options=option).stages
    weights = {
        stage.name: stage.config['model']['student']['auxiliary_head']['loss_decode']['loss_weight']
        for stage in stages
    }
    assert weights == {'supervised': 0.02, 'teacher': 0.4, 'student': 0.02}


@pytest.mark.parametrize('network', HEADS)
def test_networks_and_weights(network):
    stages = stages_of(ROOT / 'configs' / 'lad' / f'lad_{network}_voc2012aug.py')
    teacher = build_model(stages['teacher'].config['model'])
    assert isinstance(teacher.student, LabelAssistance)
    weights = {name: item.weight(0) for name, item in teacher.objectives.items()}
    assert weights == {'path1': 1.0, 'path2': 1.0, 'dual': 5.0}
    model = dict(stages['student'].config['model'])
    student = build_model(model)
    weights = {name: item.weight(0) for name, item in student.objectives.items()}
    assert weights == {'sup': 1.0, 'distill': 3.0}
    sizes = [
        sum(parameter.numel() for parameter in item.parameters())
        for item in (student.student, teacher.student)
    ]
    # The label costs one more input channel of the first 3 x 3 convolution, 32 wide.
    assert sizes[1] - sizes[0] == 9 * 32


@pytest.fixture
def narrow(monkeypatch):
    """Let configs build their networks narrow and from random weights."""

    def narrowed(build, sizes):
        return lambda *args, **options: build(*args, **{**options, **sizes, 'pretrained': None})

    for name, width in (('resnet_segmentor', 8), ('stdc', 4)):
        sizes = dict(base_channels=width, channels=16)
        monkeypatch.setattr(architectures, name, narrowed(getattr(architectures, name), sizes))


def distiller_of(network, stage, folder):
    """Return the distiller of a stage on VOC; a teacher has random weights."""
    stages = stages_of(ROOT / 'configs' / 'lad' / f'lad_{network}_voc2012aug.py')
    model = stages[stage].config['model']
    for name, teacher in model.get('teachers', {}).items():
        twin = build_model(teacher['model'])
        twin.init_weights()
        file = folder / f'{name}.pth'
        torch.save({'state_dict': twin.state_dict(), 'meta': {}}, file)
        teacher.update(checkpoint=str(file), classes=model['classes'])
    distiller = build_model(model)
    distiller.init_weights()
    return distiller.train()


def labels_of(size):
    """Return two maps of blocks of random classes, without one along the upper edge."""
    blocks = torch.randint(0, 21, (2, *(-(-side // 8) for side in size)))
    labels = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, : size[0], : size[1]]
    labels[:, :4] = IGNORE
    return labels


def take_step(distiller, labels):
    """Run a step on random images with label maps (B, H, W); return the losses."""
    images = torch.randn(len(labels), 3, *labels.shape[1:])
    samples = [make_map_sample(item) for item in labels]
    losses = distiller({'sup': images}, {'sup': samples}, mode='loss')
    losses = {name: value for name, value in losses.items() if 'loss' in name}
    assert all(value.isfinite() for value in losses.values()), losses
    return losses


def check_gradients(distiller, losses):
    """Run backward; every parameter that is trained is in the graph."""
    sum(losses.values()).backward()
    for name, parameter in distiller.student.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.usefixtures('narrow')
@pytest.mark.parametrize('stage', ['teacher', 'student'])
@pytest.mark.parametrize('network', HEADS)
def test_a_step_of_every_network(network, stage, tmp_path):
    distiller = distiller_of(network, stage, tmp_path)
    taps = [(run.network, tap) for run in distiller.plan() for tap in run.taps]
    reached = []
    for owner, tap in set(taps):
        classifier = distiller.network(owner).get_submodule(tap)
        # No forward hook, which would be a tap.
        classifier.register_forward_pre_hook(lambda *_, key=(owner, tap): reached.append(key))
    losses = take_step(distiller, labels_of((64, 64)))
    assert sorted(reached) == sorted(taps)
    assert len(taps) == 2
    assert all(value > 0 for value in losses.values())
    # What is compared teaches by itself, down to what reads the image.
    compared = {'teacher': 'dual.loss_consistency', 'student': 'distill.loss_sup'}[stage]
    stem = next(item for item in distiller.student.modules() if isinstance(item, torch.nn.Conv2d))
    (gradient,) = torch.autograd.grad(losses[compared], stem.weight, retain_graph=True)
    assert gradient.abs().sum() > 0
    check_gradients(distiller, losses)
    for name, parameter in distiller.student.named_parameters():
        if name.endswith('conv_seg.weight'):
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.usefixtures('narrow')
@pytest.mark.parametrize('stage', ['teacher', 'student'])
def test_stdc_takes_odd_crops(stage, tmp_path):
    distiller = distiller_of('stdc', stage, tmp_path)
    check_gradients(distiller, take_step(distiller, labels_of((75, 93))))


@pytest.mark.usefixtures('narrow')
@pytest.mark.parametrize('stage', ['teacher', 'student'])
def test_stdc_takes_a_crop_without_labels(stage, tmp_path):
    distiller = distiller_of('stdc', stage, tmp_path)
    losses = take_step(distiller, torch.full((2, 64, 64), IGNORE))
    # The third auxiliary head learns borders, and the others nothing.
    classes = [value for name, value in losses.items() if name.endswith(HEADS_OF_CLASSES)]
    assert [value.item() for value in classes] == [0] * (3 if stage == 'student' else 6)
    check_gradients(distiller, losses)


@pytest.mark.parametrize('stage', ['supervised', 'teacher', 'student'])
@pytest.mark.parametrize('data', CLASSES)
def test_stage_configs_run_on_their_own(data, stage):
    (found,) = load_recipe(ROOT / 'configs' / 'lad' / data / f'{stage}.py').stages
    check_configs({'': found.config}, stage)
    loader = found.config['train_dataloader']
    assert loader['batch_sampler']['counts'] == {'labeled': 16}
    assert list(loader['dataset']['sources']) == ['labeled']


def test_rate_of_the_released_run():
    """Its first logged rate is 0.001, that of step 32 100 is 0.000232, and it falls to the end without reaching 0."""
    config = stages_of(ROOT / 'configs' / 'lad' / 'lad_pspnet_voc2012aug.py')['student'].config
    (entry,) = config['param_scheduler']
    steps = config['train_cfg']['max_iters']
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.001)
    schedule = PARAM_SCHEDULERS.build(
        {**entry, 'end': steps}, default_args={'optimizer': optimizer}
    )
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0.001
    assert rates[32_100] == pytest.approx(0.000232, abs=1e-6)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    assert config['optim_wrapper']['optimizer']['lr'] == 0.02


def test_camvid_study_differs_in_the_teacher_alone():
    """The labels that the teacher reads are what the last two rows differ in."""
    recipe = load_recipe(ROOT / 'configs' / 'lad' / 'study_camvid.py')
    stages = {stage.name: stage for stage in recipe.stages}
    assert list(stages) == ['supervised', 'teacher', 'student', 'cwd']
    check_configs({name: stage.config for name, stage in stages.items()}, 'study')
    rows = ['supervised', 'teacher', 'cwd', 'student']
    assert [row['stage'] for row in recipe.report['rows']] == rows
    assert stages['cwd'].uses == [('supervised', 'checkpoint')]
    configs = {name: stage.config for name, stage in stages.items()}
    for shared in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg'):
        assert all(config[shared] == configs['supervised'][shared] for config in configs.values())
    models = {name: config['model'] for name, config in configs.items()}
    network = models['supervised']['student']
    assert last_head(network)['num_classes'] == 11
    # A stage config that is used alone trains the same network.
    alone = Config.fromfile(ROOT / 'configs' / 'lad' / 'camvid' / 'supervised.py')
    assert alone.model.student == network
    for head in ('decode_head', 'auxiliary_head'):
        assert network[head]['loss_decode']['class_weight'] == alone.class_weight
    assert models['student']['student'] == models['cwd']['student'] == network
    assert models['student']['objectives'] == models['cwd']['objectives']
    teacher = dict(models['cwd']['teachers']['twin'])
    assert teacher.pop('checkpoint') == '{supervised.checkpoint}'
    assert teacher == dict(type='castkd.FrozenTeacher', model=network)
    assert models['student']['teachers']['twin']['model'] == models['teacher']['student']
    distiller = build_model(models['cwd'])
    assert {(item.network, item.view) for item in distiller.plan()} == {
        ('twin', 'sup'),
        ('student', 'sup'),
    }
