"""The shipped MGD recipes: stages, numbers of the paper, and networks that fit each other."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from castkd.apis.command_line import parse_cfg_options
from castkd.apis.export_student import _castkd_types, _plain
from castkd.datasets.splits import draw_split
from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import MODELS
from castkd.schedules import build_schedule

CONFIGS = Path(__file__).parents[1] / 'configs' / 'mgd'
STUDENTS = ['supervised', 'distill']
TEACHERS = ['deeper', 'wider']
MOBILENET = ['supervised_mobilenet', 'distill_mobilenet']
RECIPES = {
    'voc2012aug': [*STUDENTS[:1], *TEACHERS, *STUDENTS[1:], *MOBILENET],
    'cityscapes': [*STUDENTS[:1], *TEACHERS, *STUDENTS[1:], *MOBILENET],
    'camvid': [*STUDENTS[:1], *TEACHERS, *STUDENTS[1:]],
}


@pytest.fixture(scope='module', params=RECIPES)
def recipe(request):
    return request.param, load_recipe(
        CONFIGS / f'mgd_{request.param}.py', cfg_options={'fraction': 0.0625, 'seed': 3}
    )


def device_of(name):
    """Shapes without weights where networks are large; a SegFormer asks its tensors for numbers when it is built."""
    return torch.device('cpu' if name == 'camvid' else 'meta')


def test_stages_and_what_they_take(recipe):
    name, loaded = recipe
    stages = {stage.name: stage for stage in loaded.stages}
    assert list(stages) == RECIPES[name]
    check_configs({stage.name: stage.config for stage in loaded.stages}, name)
    for stage in stages.values():
        split = stage.config['train_dataloader']['dataset']['split']
        assert split == dict(fraction=0.0625, seed=3)
        taken = {'deeper', 'wider'} if stage.name.startswith('distill') else set()
        assert {used for used, _ in stage.uses} == taken


def test_a_list_of_names_replaces_the_draw(recipe):
    """The options of the README, for published partitions."""
    name, _ = recipe
    options = parse_cfg_options(
        ['fraction=None', 'train_dataloader.dataset.split.list_file=labelled.txt']
    )
    for stage in load_recipe(CONFIGS / f'mgd_{name}.py', cfg_options=options).stages:
        split = stage.config['train_dataloader']['dataset']['split']
        assert split == dict(fraction=None, seed=0, list_file='labelled.txt')


@pytest.mark.parametrize(
    ('images', 'labelled'),
    # Of VOC's smallest one the published list has 662.
    [(10_582, (661, 1323, 2646, 5291)), (2_975, (186, 372, 744, 1488))],
    ids=['voc2012aug', 'cityscapes'],
)
def test_partitions_have_the_published_sizes(images, labelled):
    names = [f'{index}.png' for index in range(images)]
    splits = [draw_split(names, fraction) for fraction in (1 / 16, 1 / 8, 1 / 4, 1 / 2)]
    assert tuple(len(split.labeled) for split in splits) == labelled
    for smaller, larger in itertools.pairwise(splits):
        assert set(smaller.labeled) < set(larger.labeled)


def test_networks_are_built_and_planned(recipe):
    name, loaded = recipe
    for stage in loaded.stages:
        model = copy.deepcopy(stage.config['model'])
        with device_of(name):
            distiller = MODELS.build(model)
        counts = stage.config['train_dataloader']['batch_sampler']['counts']
        # On CamVid cross pseudo supervision begins late.
        plan = distiller.plan(stage.config['train_cfg']['max_iters'] - 1)
        runs = {(item.network, item.view) for item in plan}
        if stage.name.startswith('supervised'):
            assert runs == {('student', 'sup')}
            assert counts == dict(labeled=counts['labeled'])
            continue
        # One mixed image per labelled one, made of two.
        assert counts['unlabeled'] == 2 * counts['labeled']
        names = {'student', 'second'} if stage.name in TEACHERS else {'student', *TEACHERS}
        assert {network for network, _ in runs} == names
        assert len(runs) == len(plan) == (6 if stage.name in TEACHERS else 8)


def test_students_can_be_handed_over(recipe):
    """Without castkd there is no loss of hard pixels; the plain network has cross-entropy in its place."""
    name, loaded = recipe
    for stage in loaded.stages:
        if stage.name not in TEACHERS:
            plain = _plain(stage.config['model']['student'])
            assert list(_castkd_types(plain)) == []
            with device_of(name):
                head = MODELS.build(plain).decode_head
            assert head.loss_decode.loss_name == 'loss_ce'


@pytest.mark.parametrize('fraction', [0.0625, 0.125])
def test_camvid_study_gives_all_students_the_same(fraction):
    recipe = load_recipe(CONFIGS / 'study_camvid_16.py', cfg_options={'fraction': fraction})
    stages = {stage.name: stage for stage in recipe.stages}
    assert list(stages) == [*RECIPES['camvid'], 'cps', 'kd', 'no_region', 'all_labels']
    check_configs({name: stage.config for name, stage in stages.items()}, 'study')
    rows = ['supervised', 'deeper', 'wider', 'kd', 'cps', 'distill', 'no_region', 'all_labels']
    assert [row['stage'] for row in recipe.report['rows']] == rows
    assert stages['kd'].uses == [('deeper', 'checkpoint')]
    assert stages['cps'].uses == []
    plain, mgd = stages['supervised'].config, stages['distill'].config
    for name in ('kd', 'cps', 'distill', 'no_region'):
        config = stages[name].config
        assert config['model']['student'] == plain['model']['student']
        assert config['train_dataloader'] == mgd['train_dataloader']
        assert config['train_dataloader']['dataset']['split']['fraction'] == fraction
        for shared in ('optim_wrapper', 'param_scheduler', 'train_cfg'):
            assert config[shared] == plain[shared]
        views = {
            item.view
            for item in MODELS.build(copy.deepcopy(config['model'])).plan(
                config['train_cfg']['max_iters'] - 1
            )
            if item.network == 'student' and item.grad
        }
        assert views == {'sup', 'unsup_mixed'}
    assert stages['cps'].config['model']['peers']['second'] == plain['model']['student']
    for name in ('cps', *TEACHERS):
        config = stages[name].config
        weight = build_schedule(config['model']['objectives']['cps']['weight'])
        half = config['train_cfg']['max_iters'] // 2
        assert weight(half - 1) == 0
        assert weight(half + half // 2) == 1
    assert (
        stages['kd'].config['model']['teachers']['big']['model']
        == (stages['deeper'].config['model']['student'])
    )


@pytest.mark.parametrize(
    ('data', 'stage', 'weights'),
    [
        ('voc2012aug', 'distill', (1.0, 0.002, 100.0)),
        ('voc2012aug', 'distill_mobilenet', (1.0, 0.0005, 50.0)),
        ('cityscapes', 'distill', (1.0, 0.001, 100.0)),
        ('cityscapes', 'distill_mobilenet', (1.0, 0.0005, 50.0)),
    ],
)
def test_weights_of_the_levels(data, stage, weights):
    loaded = load_recipe(CONFIGS / f'mgd_{data}.py')
    config = {item.name: item.config for item in loaded.stages}[stage]
    mgd = config['model']['objectives']['mgd']
    assert tuple(mgd[f'{level}_weight'] for level in ('pixel', 'image', 'region')) == weights


def test_rate_decays_as_in_the_paper():
    """Sheet values for a first rate of 0.01; the stage's own is a quarter of it."""
    stages = {
        stage.name: stage.config for stage in load_recipe(CONFIGS / 'mgd_voc2012aug.py').stages
    }
    config = stages['distill']
    assert config['train_cfg']['max_iters'] == 39_338
    (entry,) = config['param_scheduler']
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    schedule = PARAM_SCHEDULERS.build(
        {**entry, 'end': 39_338}, default_args={'optimizer': optimizer}
    )
    rates = []
    for _ in range(39_338):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0.01
    assert rates[1000] == pytest.approx(0.0097709, abs=5e-8)
    assert rates[20_000] == pytest.approx(0.0052776, abs=5e-8)
    assert rates[-1] == pytest.approx(7.32e-7, abs=5e-9)
