import copy
import sys

import pytest
from mmengine.registry import MODELS

from castkd.engine.config_check import check_configs, config_problems
from castkd.errors import ConfigError
from tests.builders import tiny_mask2former

PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {
        'type': 'mmdet.MultiBranch',
        'branch_field': ['sup', 'unsup_student'],
        'sup': {'type': 'PackDetInputs'},
    },
]
GOOD = {
    'default_scope': 'mmdet',
    'model': {
        'type': 'castkd.Distiller',
        'student': tiny_mask2former(),
        'teachers': {'ema': {'type': 'castkd.EMATeacher', 'decay': 0.99}},
        'objectives': {
            'sup': {'type': 'castkd.Supervised', 'view': 'sup'},
            'unsup': {
                'type': 'castkd.PseudoLabel',
                'weight': {'type': 'Linear', 'start': 0.0, 'end': 1.0, 'steps': 10},
            },
        },
    },
    'train_dataloader': {
        'batch_size': 2,
        'dataset': {
            'type': 'CocoDataset',
            'ann_file': 'a.json',
            'backend_args': None,
            'pipeline': PIPELINE,
        },
        'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
    },
    'train_cfg': {'by_epoch': False, 'max_iters': 3},
    'optim_wrapper': {
        'type': 'OptimWrapper',
        'optimizer': {'type': 'AdamW', 'lr': 0.1},
        'paramwise_cfg': {'custom_keys': {'backbone': {'lr_mult': 0.1}}},
        'clip_grad': {'max_norm': 0.1},
    },
    'param_scheduler': [{'type': 'PolyLR', 'power': 0.9, 'begin': 0, 'end': 3, 'by_epoch': False}],
    'default_hooks': {'logger': {'type': 'LoggerHook', 'interval': 1, 'priority': 'LOW'}},
    'custom_hooks': [{'type': 'castkd.StageMetrics'}],
    'visualizer': {
        'type': 'DetLocalVisualizer',
        'vis_backends': [{'type': 'LocalVisBackend'}],
        'name': 'visualizer',
    },
    'log_processor': {'by_epoch': False, 'window_size': 5},
    'randomness': {'seed': 0},
    'my_own_variable': 3,
}


def with_change(path, value):
    config = copy.deepcopy(GOOD)
    *parents, last = path.split('.')
    place = config
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return config


def test_a_right_config_has_no_problem():
    assert config_problems(GOOD) == []


@pytest.mark.parametrize(
    ('path', 'value', 'hint'),
    [
        ('model.studnet', {}, "did you mean 'student'"),
        ('model.student.panoptic_head.num_querys', 3, "did you mean 'num_queries'"),
        ('model.student.backbone.deph', 18, "did you mean 'depth'"),
        ('model.teachers.ema.decai', 0.1, "did you mean 'decay'"),
        ('model.objectives.sup.wieght', 1.0, "did you mean 'weight'"),
        ('model.objectives.unsup.weight.strat', 1.0, "did you mean 'start'"),
        ('train_dataloader.batchsize', 2, "did you mean 'batch_size'"),
        ('train_dataloader.dataset.anno_file', 'b', "did you mean 'ann_file'"),
        ('train_dataloader.sampler.shufle', True, "did you mean 'shuffle'"),
        ('train_cfg.max_iter', 3, "did you mean 'max_iters'"),
        ('optim_wrapper.clip_grads', {}, "did you mean 'clip_grad'"),
        ('optim_wrapper.optimizer.lrr', 0.1, "did you mean 'lr'"),
        ('param_scheduler.0.powr', 1, "did you mean 'power'"),
        ('default_hooks.logger.intervall', 1, "did you mean 'interval'"),
        ('custom_hooks.0.interval', 1, 'StageMetrics has no such key'),
        ('log_processor.windowsize', 1, "did you mean 'window_size'"),
        ('randomness.sead', 1, "did you mean 'seed'"),
        ('optim_wraper', {}, None),
        ('train_dataloder', {}, None),
    ],
)
def test_a_misspelt_key_is_named_with_a_suggestion(path, value, hint):
    config = with_change(path, value)
    if hint is None:
        # The right key is absent when it is misspelt.
        right = {'optim_wraper': 'optim_wrapper', 'train_dataloder': 'train_dataloader'}[path]
        del config[right]
        problems = config_problems(config)
        assert any(item.startswith(f'{right}: missing') for item in problems)
        assert any(item.startswith(f'{path}: nothing reads this key') for item in problems)
        return
    (problem,) = config_problems(config)
    assert problem.startswith(f'{path}: ')
    assert hint in problem


@pytest.mark.parametrize(
    ('path', 'value', 'hint'),
    [
        ('model.type', 'castkd.Distilller', "did you mean 'castkd.Distiller'"),
        ('model.student.type', 'Mask2Formr', "'Mask2Former'"),
        ('model.student.panoptic_head.type', 'mmdet.Mask2FormerHaed', "'mmdet.Mask2FormerHead'"),
        ('model.teachers.ema.type', 'castkd.EmaTeacher', "'castkd.EMATeacher'"),
        ('train_dataloader.dataset.type', 'CocoDatset', "'CocoDataset'"),
        ('train_dataloader.dataset.pipeline.0.type', 'LoadImageFromFil', "'LoadImageFromFile'"),
        ('optim_wrapper.optimizer.type', 'AdmW', "'AdamW'"),
        ('custom_hooks.0.type', 'nopackage.Hook', "no package 'nopackage'"),
    ],
)
def test_an_unknown_type_is_named_with_near_ones(path, value, hint):
    (problem,) = config_problems(with_change(path, value))
    assert problem.startswith(f'{path}: there is no {value!r}; ')
    assert hint in problem


@pytest.mark.parametrize(
    ('source', 'reason'),
    [
        ('import no_such_dependency', "ModuleNotFoundError: No module named 'no_such_dependency'"),
        ('class Net(', "SyntaxError: '(' was never closed (broken.py, line 1)"),
        ("raise RuntimeError('no\\nlicence')", 'RuntimeError: no licence'),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_reason(
    tmp_path, monkeypatch, source, reason
):
    package = tmp_path / 'broken_package'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / 'broken.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ('broken_package', 'broken_package.broken'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (problem,) = config_problems(with_change('model.student.type', 'broken_package.broken.Net'))
    text = (
        f"'broken_package.broken' cannot be imported ({reason}); mend it or install what it needs"
    )
    assert problem == f'model.student.type: {text}'
    (problem,) = config_problems(with_change('model.student.type', 'broken_package.other.Net'))
    assert problem.startswith("model.student.type: there is no 'broken_package.other.Net'; ")


def test_a_package_whose_parts_cannot_be_imported_is_told_with_the_reason(tmp_path, monkeypatch):
    package = tmp_path / 'half_package'
    package.mkdir()
    (package / '__init__.py').touch()
    (package / 'registry.py').write_text(
        'from mmengine.registry import MODELS, Registry\n'
        "NETS = Registry('net', parent=MODELS, scope='half_package', locations=['half_package.nets'])"
    )
    (package / 'nets.py').write_text('import no_such_dependency')
    monkeypatch.syspath_prepend(tmp_path)
    children = dict(MODELS.children)
    try:
        problems = config_problems(with_change('model.student.type', 'half_package.Net'))
    finally:
        MODELS._children = children
    reason = "(ModuleNotFoundError: No module named 'no_such_dependency')"
    assert len(problems) == 1
    assert f"model.student.type: package 'half_package' cannot be imported {reason}" in problems[0]


@pytest.mark.parametrize('key', ['model', 'train_dataloader', 'train_cfg', 'optim_wrapper'])
def test_a_section_that_training_needs_is_missed(key):
    (problem,) = config_problems(with_change(key, None))
    assert problem.startswith(f'{key}: missing')


def test_validation_keys_go_together():
    (problem,) = config_problems({**GOOD, 'val_cfg': {}})
    assert problem.startswith('val_dataloader: missing')


def test_a_schedule_that_is_over_before_it_begins_is_told():
    config = copy.deepcopy(GOOD)
    warm_up = {'type': 'LinearLR', 'start_factor': 0.1, 'begin': 0, 'end': 3, 'by_epoch': False}
    decay = {'type': 'PolyLR', 'power': 0.9, 'begin': 3, 'by_epoch': False}
    config['param_scheduler'] = [warm_up, decay]
    assert config_problems(config) == [
        'param_scheduler.1: begins at 3 and is over by 3 (train_cfg.max_iters); begin it earlier '
        '(a shorter warm-up before it) or train longer'
    ]
    config['train_cfg']['max_iters'] = 4
    assert config_problems(config) == []
    decay.update(begin=4, end=2)
    assert 'begins at 4 and is over by 2 (its end)' in config_problems(config)[0]
    decay.update(by_epoch=True)
    decay.pop('end')
    assert config_problems(config) == []


def test_keys_that_the_surrounding_code_takes_out_are_no_problem():
    config = with_change('model.student.backbone.norm_cfg', {'type': 'BN', 'requires_grad': False})
    config['param_scheduler'][0]['convert_to_iter_based'] = True
    config['model']['student']['test_cfg']['nms'] = {'type': 'soft_nms', 'iou_threshold': 0.5}
    assert config_problems(config) == []


def test_all_problems_come_together_in_one_line():
    config = with_change('model.student.backbone.deph', 18)
    config['train_cfg']['max_iter'] = 2
    with pytest.raises(ConfigError) as caught:
        check_configs({'adapt': config, 'tune': GOOD}, 'recipe.py')
    message = str(caught.value)
    assert message.startswith('recipe.py: 2 problems: (1) adapt: ')
    assert ' (2) adapt: ' in message
    assert '\n' not in message
    for key in ('model.student.backbone.deph: ', 'train_cfg.max_iter: '):
        assert f'adapt: {key}' in message


def test_a_problem_of_several_stages_is_told_once():
    config = with_change('train_cfg.max_iter', 2)
    with pytest.raises(
        ConfigError, match=r'^recipe\.py: adapt, tune: train_cfg\.max_iter: '
    ) as caught:
        check_configs({'adapt': config, 'other': GOOD, 'tune': config}, 'recipe.py')
    assert str(caught.value).count('max_iter:') == 1


def test_one_problem_is_one_line():
    config = with_change('train_cfg.max_iter', 2)
    with pytest.raises(ConfigError) as caught:
        check_configs({'': config}, 'stage.py')
    assert str(caught.value).startswith('stage.py: train_cfg.max_iter: IterBasedTrainLoop has no')
    assert '\n' not in str(caught.value)
