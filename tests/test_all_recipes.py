"""Every recipe of configs/ can be started and its students handed over: stages, keys, and types that are plain."""

from pathlib import Path

import pytest
from mmengine.config import Config

from castkd.apis.export_student import plain_config
from castkd.apis.student import student_config
from castkd.apis.train import check_recipe
from castkd.engine.recipe import TRAIN, load_recipe

ROOT = Path(__file__).parents[1]
# What several recipes share is no recipe.
RECIPES = sorted(path for path in ROOT.glob('configs/*/*.py') if path.stem != 'shared')
# Networks and backbones of teachers, which stay here.
OF_TEACHERS = {
    'castkd.FoundationSegmentor',
    'castkd.LabelAssistedSegmentor',
    'castkd.LabelAssistedCascadeSegmentor',
    'castkd.WideResNet',
}


@pytest.fixture(scope='module', params=RECIPES, ids=lambda path: f'{path.parent.name}/{path.stem}')
def recipe(request, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield load_recipe(request.param, work_dir=tmp_path_factory.mktemp('work'))


def test_there_are_recipes_of_every_method():
    folders = {path.parent.name for path in RECIPES}
    methods = {'cast', 'mgd', 'lad', 'transkd', 'gid', 'guided_distillation', 'quickstart'}
    assert methods <= folders


def test_recipe_is_sound(recipe):
    check_recipe(recipe)


def test_students_are_plain(recipe):
    """As ``tools/export_student.py`` writes them, before it loads any weights."""
    handed_over = []
    for stage in recipe.stages:
        if stage.kind != TRAIN or not stage.config:
            continue
        student = student_config(Config(stage.config))
        network = student.model
        if OF_TEACHERS.isdisjoint({network.type, network.get('backbone', {}).get('type')}):
            handed_over.append(plain_config(student, {'classes': ('a', 'b')}))
    assert handed_over
