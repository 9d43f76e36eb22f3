import pytest

from castkd.engine.optim import mixed_precision
from castkd.engine.recipe import PSEUDO_LABEL, load_recipe
from castkd.errors import ConfigError
from tests.engine.toy_project import CONFIG, RECIPE, write_project


def load(folder, recipe=RECIPE, config=CONFIG, **options):
    return load_recipe(write_project(folder, recipe, config), **options)


def by_name(recipe):
    return {stage.name: stage for stage in recipe.stages}


def test_stages_come_in_order_with_variables_filled_in(tmp_path):
    recipe = load(tmp_path)
    first, second = recipe.stages
    assert (first.name, second.name) == ('first', 'second')
    assert first.config['randomness'] == {'seed': 3}
    assert first.config['optim_wrapper']['optimizer']['lr'] == 0.1
    assert first.uses == []
    assert second.config['load_from'] == '{first.checkpoint}'
    assert second.uses == [('first', 'checkpoint')]


def test_the_default_work_dir_is_the_name_of_the_file(tmp_path):
    assert str(load(tmp_path).work_dir) == 'work_dirs/recipe'
    assert load(tmp_path, work_dir=tmp_path / 'w').folder('first') == tmp_path / 'w' / 'first'
    recipe = load(tmp_path, RECIPE + "work_dir = 'runs/seed{seed}'\n")
    assert str(recipe.work_dir) == 'runs/seed3'


def test_options_reach_variables_one_stage_or_all(tmp_path):
    options = {
        'seed': 7,
        'second.train_cfg.max_iters': 9,
        'train_dataloader.batch_size': 1,
    }
    stages = by_name(load(tmp_path, cfg_options=options))
    assert [stage.config['randomness']['seed'] for stage in stages.values()] == [7, 7]
    assert [stage.config['train_cfg']['max_iters'] for stage in stages.values()] == [4, 9]
    assert [stage.config['train_dataloader']['batch_size'] for stage in stages.values()] == [1, 1]


def test_an_option_may_change_a_part_of_what_a_variable_stands_for(tmp_path):
    recipe = """
network = dict(type='castkd.Toy', sizes=dict(width=1, depth=2))
shared = {'model': '{network}'}
recipe = [
    dict(name='first', config='stage.py', cfg_options=shared),
    dict(name='second', config='stage.py', cfg_options={**shared, 'load_from': '{first.checkpoint}'}),
]
del shared
"""
    options = {'model.sizes.width': 5, 'second.load_from': 'mine.pth'}
    stages = by_name(load(tmp_path, recipe, cfg_options=options))
    expected = {'type': 'castkd.Toy', 'sizes': {'width': 5, 'depth': 2}}
    # The variable takes the place of the config's own value.
    assert [stage.config['model'] for stage in stages.values()] == [expected, expected]
    assert stages['second'].config['load_from'] == 'mine.pth'
    assert stages['second'].uses == []


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'sed': 1}, "did you mean 'seed'"),
        ({'frist.seed': 1}, "did you mean 'first'"),
        ({'first.modle.width': 2}, "first: option 'modle.width' changes nothing"),
        ({'train_cfg.max_iters.x': 2}, 'option train_cfg.max_iters.x=2 does not fit the config'),
    ],
)
def test_options_that_reach_nothing_are_refused(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, cfg_options=options)


LABEL = """
thr = 0.5
recipe = [
    dict(name='adapt', config='stage.py'),
    dict(name='label', kind='pseudo_label', config='{adapt.config}', checkpoint='{adapt.checkpoint}',
         images='data', exclude='{adapt.split}', score_thr='{thr}'),
    dict(name='distill', config='stage.py', cfg_options={'load_from': '{label.annotations}'}),
]
"""


def test_a_pseudo_label_stage_takes_the_config_of_an_earlier_stage(tmp_path):
    label = by_name(load(tmp_path, LABEL))['label']
    assert label.kind == PSEUDO_LABEL
    assert label.config == {}
    assert label.options['config'] == '{adapt.config}'
    assert label.options['score_thr'] == 0.5
    assert set(label.uses) == {
        ('adapt', 'config'),
        ('adapt', 'checkpoint'),
        ('adapt', 'split'),
    }


def test_options_of_a_pseudo_label_stage_are_its_own_keys_or_its_config(tmp_path):
    options = {'label.score_thr': 0.9, 'label.model.width': 2, 'train_cfg.max_iters': 1}
    label = by_name(load(tmp_path, LABEL, cfg_options=options))['label']
    assert label.options['score_thr'] == 0.9
    assert label.options['cfg_options'] == {'model.width': 2}


def test_a_pseudo_label_stage_may_have_a_config_file(tmp_path):
    recipe = LABEL.replace("config='{adapt.config}'", "config='stage.py'")
    options = {'label.model.width': 2}
    label = by_name(load(tmp_path, recipe, cfg_options=options))['label']
    assert label.config['model'] == {'type': 'ToyNet', 'width': 2}
    assert 'config' not in label.options


@pytest.mark.parametrize(
    ('entries', 'words'),
    [
        ('[]', 'recipe must be a list of stages'),
        ("[dict(name='a', confg='stage.py')]", "recipe.0.confg: .*did you mean 'config'"),
        ("[dict(name='a/b', config='stage.py')]", 'recipe.0.name: must be a word'),
        ("[dict(name='a', config='stage.py')] * 2", "recipe.1.name: there are two stages 'a'"),
        ("[dict(name='a', kind='trian', config='stage.py')]", "recipe.0.kind: .*'train'"),
        ("[dict(name='a', kind='pseudo_label', config='stage.py')]", 'recipe.0.checkpoint'),
        ("[dict(name='a', config='stage.py', cfg_options=[1])]", 'recipe.0.cfg_options: must be'),
        ("[dict(name='a', config='stag.py')]", 'stag.py.* does not exist'),
        ("[dict(name='seed', config='stage.py')]", "'seed' is a stage and a variable"),
        ("[dict(name='a', config='{a.config}')]", 'does not run before this one'),
    ],
)
def test_wrong_recipes_are_refused(tmp_path, entries, words):
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, f'seed = 0\nrecipe = {entries}\n')


def test_all_problems_of_the_entries_come_together(tmp_path):
    entries = "[dict(name='a', confg=1), dict(nam='b', config='stage.py')]"
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f'recipe = {entries}\n')
    for key in ('recipe.0.confg', 'recipe.0.config', 'recipe.1.name', 'recipe.1.nam:'):
        assert key in str(caught.value)


def test_a_file_that_is_no_config_is_one_line(tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text('model = dict(\n')
    with pytest.raises(ConfigError, match=r'broken\.py.* cannot be read: SyntaxError') as caught:
        load_recipe(path)
    assert '\n' not in str(caught.value)


def test_why_custom_imports_fail_is_told(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'my_parts.py').write_text('import no_such_dependency')
    path = tmp_path / 'stage.py'
    path.write_text("custom_imports = dict(imports=['my_parts'], allow_failed_imports=False)")
    text = r"stage\.py' cannot be read: ModuleNotFoundError: No module named 'no_such_dependency'$"
    with pytest.raises(ConfigError, match=text):
        load_recipe(path)


def test_a_plain_config_is_a_recipe_of_one_stage_in_the_work_dir(tmp_path):
    write_project(tmp_path)
    options = {'model.width': 2}
    recipe = load_recipe(tmp_path / 'stage.py', work_dir=tmp_path / 'w', cfg_options=options)
    (stage,) = recipe.stages
    assert recipe.single
    assert stage.name == 'stage'
    assert stage.config['model']['width'] == 2
    assert recipe.folder('stage') == tmp_path / 'w'


def test_amp_reaches_all_train_stages(tmp_path):
    recipe = load(tmp_path, amp=True)
    kinds = [stage.config['optim_wrapper']['type'] for stage in recipe.stages]
    assert kinds == [mixed_precision()['type']] * 2


def test_amp_leaves_a_wrapper_that_is_one_of_mixed_precision(tmp_path):
    wrapper = {
        'type': 'AmpOptimWrapper',
        'loss_scale': 512.0,
        'optimizer': {'type': 'SGD', 'lr': 0.1},
    }
    config = f'{CONFIG}\noptim_wrapper = {wrapper}\n'
    recipe = "recipe = [dict(name='first', config='stage.py')]\n"
    (stage,) = load(tmp_path, recipe, config, amp=True).stages
    assert stage.config['optim_wrapper'] == wrapper


def test_an_unknown_stage_is_told_with_near_names(tmp_path):
    with pytest.raises(ConfigError, match="has no stage 'frist'; did you mean 'first'"):
        load(tmp_path).select('frist')
