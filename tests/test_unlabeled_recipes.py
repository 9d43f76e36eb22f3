"""LAD and TransKD where few images are labelled: the studies through the command line, on a tiny CamVid."""

import json
from pathlib import Path

import pytest

from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import build_model
from tests.plain_project import SHORT, call
from tests.semantic_fixtures import make_camvid
from tools import train

CONFIGS = Path(__file__).parents[1] / 'configs'
STEPS = 2
PAIR = {'labeled': 8, 'unlabeled': 8}
# Per method: images per step of every stage that trains, runs of the last stage, and stages that it needs.
METHODS = {
    'lad': (
        {
            'supervised': {'labeled': 8},
            'teacher': {'labeled': 8},
            'pseudo': PAIR,
            'student': {'labeled': 8},
            'student_pseudo': PAIR,
        },
        {
            ('twin', 'sup'),
            ('twin', 'unsup_teacher'),
            ('student', 'sup'),
            ('student', 'unsup_student'),
        },
        ['supervised', 'label', 'teacher', 'student_pseudo'],
    ),
    'transkd': (
        {
            'teacher': {'labeled': 8},
            'supervised': {'labeled': 8},
            'base': {'labeled': 8},
            'unlabeled': PAIR,
        },
        {
            ('big', 'sup'),
            ('big', 'unsup_teacher'),
            ('student', 'sup'),
            ('student', 'unsup_teacher'),
        },
        ['teacher', 'unlabeled'],
    ),
}
LOSSES = {
    'lad': ('sup.decode.loss_ce', 'unsup.decode.loss_ce', 'distill.loss_unsup_student'),
    'transkd': ('sup.decode.loss_ce', 'transkd.loss_hcl_s4', 'transkd.loss_pea_s4'),
}


def recipe_of(method):
    return CONFIGS / method / 'study_camvid_16.py'


@pytest.mark.parametrize('method', METHODS)
def test_all_rows_have_the_same_labels(method):
    counts, runs, _ = METHODS[method]
    recipe = load_recipe(recipe_of(method))
    stages = {stage.name: stage for stage in recipe.stages}
    trained = {name: stages[name].config for name in counts}
    assert set(stages) - set(trained) <= {'label'}
    assert {row['stage'] for row in recipe.report['rows']} == set(trained)
    check_configs(trained, method)
    plain = trained['supervised']
    for name, config in trained.items():
        loader = config['train_dataloader']
        assert loader['batch_sampler']['counts'] == counts[name]
        assert loader['batch_size'] == sum(counts[name].values())
        assert set(loader['dataset']['sources']) == set(counts[name])
        assert loader['dataset']['split'] == plain['train_dataloader']['dataset']['split']
        for shared in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_dataloader'):
            assert config[shared] == plain[shared]
        if name != 'teacher':
            assert config['model']['student'] == plain['model']['student']
    distiller = build_model(list(trained.values())[-1]['model'])
    assert {(item.network, item.view) for item in distiller.plan()} == runs


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_a_study_trains_on_unlabelled_images(method, tmp_path, monkeypatch):
    needed = METHODS[method][-1]
    make_camvid(tmp_path / 'data/camvid')
    monkeypatch.chdir(tmp_path)
    # Asking the machine for its compilers takes a second.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    chosen = [part for name in needed for part in ('--stage', name)]
    options = [f'train_cfg.max_iters={STEPS}', 'fraction=0.25', *SHORT]
    if method == 'lad':
        # One schedule, not two; a threshold below one in eleven, so that every pixel has a label.
        options = [option for option in options if not option.startswith('param_scheduler')]
        options.append('score_thr=0.05')
    call(train, recipe_of(method), *chosen, '--cfg-options', *options)

    folder = tmp_path / f'work_dirs/{method}_camvid_16'
    stages = json.loads((folder / 'recipe.json').read_text())['stages']
    assert [name for name, stage in stages.items() if stage['state'] == 'done'] == needed
    last = stages[needed[-1]]
    assert last['images'] == {'labeled': 3, 'unlabeled': 9}
    assert 0 <= last['metrics']['mIoU'] <= 100
    first = next((folder / needed[-1]).glob('*/vis_data/scalars.json')).read_text().splitlines()[0]
    values = json.loads(first)
    assert all(values[name] > 0 for name in LOSSES[method])
