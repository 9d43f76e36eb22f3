"""MGD, LAD, TransKD and GID on generated scenes: the quickstart recipes, and the students that they hand over."""

import json
from pathlib import Path

import pytest
import torch

from castkd.apis.predictor import load_predictor
from castkd.datasets.scenes import generate_scenes
from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe
from castkd.registry import build_model
from tests.plain_project import DETECTOR, SEGMENTOR, SHORT, call, plain_answer
from tools import export_student, train
from tools import test as evaluate

CONFIGS = Path(__file__).parents[1] / 'configs' / 'quickstart'
STEPS = 2
# Per method: its stages, those of students, those that the last one needs, and a loss that it logs.
METHODS = {
    'mgd': (
        ['supervised', 'deeper', 'wider', 'distill'],
        ['supervised', 'distill'],
        ['deeper', 'wider', 'distill'],
        'mgd.loss_pixel_unlabeled',
    ),
    'lad': (
        ['supervised', 'teacher', 'student'],
        ['supervised', 'student'],
        ['teacher', 'student'],
        'distill.loss_sup',
    ),
    'transkd': (
        ['teacher', 'supervised', 'base', 'gl', 'ea'],
        ['supervised', 'base', 'gl', 'ea'],
        ['teacher', 'ea'],
        'transkd.loss_pea_s4',
    ),
    'gid': (
        ['supervised', 'teacher', 'distill'],
        ['supervised', 'distill'],
        ['teacher', 'distill'],
        'gid.loss_relation',
    ),
}
# Enough images for a step, and a threshold at which a detector that is not trained finds something.
OPTIONS = {
    'mgd': ['fraction=0.25'],
    'gid': ['fraction=0.5', 'model.student.test_cfg.score_thr=0.0'],
}


@pytest.mark.parametrize('method', METHODS)
def test_recipes_are_small_and_give_all_students_the_same(method):
    names, students, _, _ = METHODS[method]
    stages = {stage.name: stage for stage in load_recipe(CONFIGS / f'{method}_scenes.py').stages}
    assert list(stages) == names
    check_configs({name: stage.config for name, stage in stages.items()}, method)
    plain = stages['supervised'].config
    for name, stage in stages.items():
        config = stage.config
        if name in students:
            assert config['model']['student'] == plain['model']['student']
        for shared in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'val_dataloader'):
            assert config[shared] == plain[shared], name
        counts = config['train_dataloader']['batch_sampler']['counts']
        assert counts['labeled'] == plain['train_dataloader']['batch_sampler']['counts']['labeled']
        assert sum(counts.values()) == config['train_dataloader']['batch_size']
        distiller = build_model(config['model'])
        networks = [distiller.student, *(item.model for item in distiller.teachers.values())]
        assert max(sum(v.numel() for v in item.parameters()) for item in networks) < 4e6
        assert distiller.plan()


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('quickstart')
    generate_scenes(folder / 'data/scenes', num_train=8, num_val=2, size=(64, 128))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('method', METHODS)
def test_a_student_of_the_recipe_is_plain(method, root, tmp_path, monkeypatch):
    _, students, needed, loss = METHODS[method]
    monkeypatch.chdir(root)
    # Asking the machine for its compilers takes a second.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    chosen = [part for name in needed for part in ('--stage', name)]
    options = [f'train_cfg.max_iters={STEPS}', *SHORT]
    options += OPTIONS.get(method, [])
    call(train, CONFIGS / f'{method}_scenes.py', *chosen, '--cfg-options', *options)

    folder = root / f'work_dirs/{method}_scenes'
    stages = json.loads((folder / 'recipe.json').read_text())['stages']
    assert [name for name, stage in stages.items() if stage['state'] == 'done'] == needed
    last = folder / students[-1]
    assert loss in next(last.glob('*/vis_data/scalars.json')).read_text()

    given = [last / 'config.py', last / f'iter_{STEPS}.pth']
    call(export_student, *given, '--out', tmp_path)
    assert 'castkd' not in (tmp_path / 'student.py').read_text()
    plain = [tmp_path / 'student.py', tmp_path / 'student.pth']
    call(evaluate, *plain, '--out', tmp_path / 'plain.json', '--work-dir', tmp_path / 'work')
    # Without connectors and teachers it is as good as the stage said.
    metrics = json.loads((tmp_path / 'plain.json').read_text())['metrics']
    assert metrics == stages[students[-1]]['metrics']
    image = next((root / 'data/scenes/leftImg8bit/val').rglob('*.png'))
    wanted = load_predictor(*given).predict_paths([image])[0]
    if method == 'gid':
        found = plain_answer(DETECTOR, tmp_path, image)
        assert len(found['scores']) > 0
        assert all(torch.equal(wanted.pred_instances[key], found[key]) for key in found)
    else:
        assert torch.equal(plain_answer(SEGMENTOR, tmp_path, image), wanted.seg_logits.data)
