"""Every recipe of configs/ can be started: its report names stages that it has, nothing in its configs is unknown."""

from pathlib import Path

import pytest

from castkd.apis.train import check_recipe
from castkd.engine.recipe import load_recipe

ROOT = Path(__file__).parents[1]
# What several recipes share is no recipe.
RECIPES = sorted(path for path in ROOT.glob('configs/*/*.py') if path.stem != 'shared')


def test_there_are_recipes_of_every_method():
    folders = {path.parent.name for path in RECIPES}
    methods = {'cast', 'mgd', 'lad', 'transkd', 'gid', 'guided_distillation', 'quickstart'}
    assert methods <= folders


@pytest.mark.parametrize('path', RECIPES, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_recipe_is_sound(path, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_recipe(load_recipe(path, work_dir=tmp_path))
