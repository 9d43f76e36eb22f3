"""The recipes of Guided Distillation in the paper's size: stages, networks, numbers of the paper, the strong view."""

from pathlib import Path

import pytest

from castkd.engine.config_check import check_configs
from castkd.engine.recipe import load_recipe

pytest.importorskip('transformers')
CONFIGS = Path(__file__).parents[1] / 'configs'
# Iterations of CAST's stage 2, labelled and unlabelled images of a step, rate, decay.
EXPECTED = {
    'cityscapes': (90_000, 4, 5e-5, 0.1),
    'cityscapes_resnet50': (90_000, 16, 1e-4, 0.05),
    'ade20k': (160_000, 4, 1e-4, 0.05),
    'coco': (368_750, 4, 1e-4, 0.05),
    'coco_resnet50': (368_750, 16, 1e-4, 0.05),
}


def test_every_recipe_is_tested():
    found = {path.stem for path in CONFIGS.glob('guided_distillation/gd_*.py')}
    assert found - {'gd_nuclei128_2pct'} == {f'gd_{name}' for name in EXPECTED}


@pytest.mark.parametrize('name', EXPECTED)
def test_stages_have_the_numbers_of_the_paper(name):
    iterations, half, rate, decay = EXPECTED[name]
    recipe = load_recipe(
        CONFIGS / 'guided_distillation' / f'gd_{name}.py', cfg_options={'fraction': 0.05, 'seed': 3}
    )
    stages = {stage.name: stage for stage in recipe.stages}
    assert list(stages) == ['supervised', 'guided']
    configs = {key: stage.config for key, stage in stages.items()}
    check_configs(configs, name)
    supervised, guided = configs.values()
    assert supervised['model']['student'] == guided['model']['student']
    for config in configs.values():
        assert config['train_cfg']['max_iters'] == iterations
        assert config['optim_wrapper']['optimizer']['lr'] == rate
        assert config['optim_wrapper']['optimizer']['weight_decay'] == decay
        assert config['train_dataloader']['dataset']['split'] == {'fraction': 0.05, 'seed': 3}
    assert guided['train_dataloader']['batch_sampler']['counts'] == {
        'labeled': half,
        'unlabeled': half,
    }
    assert guided['train_dataloader']['batch_size'] == 2 * half
    teacher = guided['model']['teachers']['ema']
    assert (teacher['decay'], teacher['burn_in']) == (0.9996, 50_000)
    assert stages['guided'].uses == [('supervised', 'checkpoint')]
    assert guided['model']['objectives']['unsup']['weight'] == 2.0
    labeler = guided['model']['pseudo_labeler']
    assert (labeler['score_thr'], labeler['min_soft_area']) == (0.7, 5.0)


@pytest.mark.parametrize('data', ['cityscapes', 'ade20k', 'coco', 'nuclei128'])
def test_the_student_sees_other_colours_of_the_same_pixels(data):
    (stage,) = load_recipe(CONFIGS / 'guided_distillation' / data / 'guided.py').stages
    sources = stage.config['train_dataloader']['dataset']['sources']
    *shared, views = sources['unlabeled']['pipeline']
    strong, pack = views['unsup_student']
    assert strong == {
        'type': 'castkd.StrongPhotometric',
        'jitter_prob': 0.8,
        'gray_prob': 0.2,
        'blur_prob': 0.5,
        'blur_kernel': None,
    }
    assert views['unsup_teacher'] == [pack]
    labeled = sources['labeled']['pipeline']
    # What is drawn for geometry and colours is drawn once, for labelled and unlabelled images alike.
    assert [step['type'] for step in shared[2:]] == [step['type'] for step in labeled[2:-1]]
