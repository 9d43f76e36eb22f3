"""Label maps that cannot be right, through ``tools/train.py``: one line, status 2, nothing half-written."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.plain_project import status
from tests.semantic_fixtures import make_camvid, write_map
from tests.test_bad_input import left_behind, the_line
from tools import train

CONFIG = Path(__file__).parents[1] / 'configs' / 'mgd' / 'camvid' / 'supervised.py'
OPTIONS = [
    'train_dataloader.dataset.split.fraction=0.5',
    'train_cfg.max_iters=2',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
]


def of_other_size(path):
    write_map(path, np.zeros((3, 5)))


def of_another_class(path):
    labels = np.asarray(Image.open(path)).copy()
    labels[0, :2] = 11
    write_map(path, labels)


def of_colours(path):
    Image.open(path).convert('RGB').save(path)


def with_a_palette(path):
    write_map(path, Image.open(path), mode='P')


WRONG = {
    'another size': (of_other_size, r'has 3 x 5 pixels \(height x width\), its image'),
    'another class': (of_another_class, r'has 2 pixels with indices outside the 11 classes \(11'),
    'colours': (of_colours, r'RGB.*index map'),
    'a palette': (with_a_palette, 'is a PNG with a palette, an index map is expected'),
}


@pytest.fixture
def data(tmp_path, monkeypatch):
    make_camvid(tmp_path / 'data/camvid')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    return tmp_path / 'data/camvid/labels/train'


def run(*options):
    return status(train, CONFIG, '--work-dir', 'work', '--cfg-options', *OPTIONS, *options)


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize('wrong', WRONG)
def test_training_refuses(data, capsys, wrong, workers):
    damage, words = WRONG[wrong]
    for path in data.iterdir():
        damage(path)
    assert run(f'train_dataloader.num_workers={workers}') == 2
    line = the_line(capsys)
    assert re.search(rf"label map '.*labels/train/0001TP_\d+\.png'.*{words}", line), line
    assert [path for path in left_behind(Path('work')) if path.name != 'split.json'] == []


@pytest.mark.usefixtures('data')
def test_the_data_as_it_is_trains():
    """Otherwise a refusal would mean nothing."""
    assert run('train_dataloader.num_workers=0') == 0
    assert Path('work/metrics.json').is_file()
