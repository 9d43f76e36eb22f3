"""Commands of the how-to pages are real: files that are there, options that the tools know, configs that fit."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from castkd.apis.command_line import parse_cfg_options
from castkd.apis.train import check_recipe
from castkd.engine.recipe import TRAIN, load_recipe

ROOT = Path(__file__).parents[1]
GUIDES = ['docs/cityscapes.md']


def commands(guide):
    """Return the commands of a page as lists of words, variables of the shell replaced."""
    text = (ROOT / guide).read_text().replace('\\\n', ' ')
    variables = dict(re.findall(r'^    (\w+)=(\S+)$', text, flags=re.MULTILINE))
    lines = re.findall(r'^    ((?:python )?tools/.*)$', text, flags=re.MULTILINE)
    return [
        shlex.split(re.sub(r'\$(\w+)', lambda match: variables[match[1]], line)) for line in lines
    ]


def arguments_of(words):
    """Return tool and arguments; those of a distributed training are those of tools/train.py."""
    if words[0] == 'tools/dist_train.sh':
        return 'tools/train.py', [words[1], *words[3:]]
    return words[1], words[2:]


def parsed(tool, arguments):
    spec = importlib.util.spec_from_file_location('tool', ROOT / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.parse_arguments(arguments)


CASES = [words for guide in GUIDES for words in commands(guide)]


def test_commands_are_found():
    assert len(CASES) >= 13


@pytest.mark.parametrize('words', CASES, ids=' '.join)
def test_a_command_can_be_given(words, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    tool, arguments = arguments_of(words)
    options = parsed(tool, arguments)
    config = getattr(options, 'config', None)
    if config is None or config.parts[0] == 'work_dirs':
        return
    assert config.is_file()
    if tool not in ('tools/train.py', 'tools/study.py'):
        return
    recipe = load_recipe(
        config, work_dir=tmp_path, cfg_options=parse_cfg_options(options.cfg_options)
    )
    check_recipe(recipe)
    for stage in recipe.stages:
        if stage.kind == TRAIN:
            loader = stage.config['train_dataloader']
            assert sum(loader['batch_sampler']['counts'].values()) == loader['batch_size']


def test_links_and_files_are_there():
    for guide in GUIDES:
        path = ROOT / guide
        text = path.read_text()
        for link in re.findall(r'\]\(([^)#:]+)(?:#[\w-]+)?\)', text):
            assert (path.parent / link).is_file(), link
        for file in re.findall(r'(?:configs|tests|tools)/[\w/]+\.(?:py|sh)', text):
            assert (ROOT / file).is_file(), file
