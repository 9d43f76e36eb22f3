"""Pascal VOC by its objects: several years in one dataset, and a training on them that is judged by VOC's metric."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from castkd.datasets import SourceDataset, VOCYears
from castkd.errors import ConfigError, DataError
from tests.plain_project import call
from tools import train

CONFIGS = Path(__file__).parents[2] / 'configs'
OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{left}</xmin><ymin>11</ymin><xmax>41</xmax><ymax>51</ymax></bndbox></object>"""
IMAGE = """<annotation><size><width>80</width><height>60</height><depth>3</depth></size>{objects}</annotation>"""


def write_year(root, year, subset, names, objects):
    """Write a year in VOC's layout: images, annotations and the list of a subset."""
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / year / folder).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0)
    for name in names:
        image = pixels.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(root / year / 'JPEGImages' / f'{name}.jpg'), image)
        found = ''.join(OBJECT.format(**item) for item in objects)
        (root / year / 'Annotations' / f'{name}.xml').write_text(IMAGE.format(objects=found))
    (root / year / 'ImageSets/Main' / f'{subset}.txt').write_text('\n'.join(names) + '\n')


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'data' / 'VOCdevkit'
    dog = dict(name='dog', difficult=0, left=21)
    hard = dict(name='person', difficult=1, left=31)
    write_year(folder, 'VOC2007', 'trainval', ['000001', '000002'], [dog, hard])
    write_year(folder, 'VOC2012', 'trainval', ['2008_000001', '2008_000002'], [dog])
    write_year(folder, 'VOC2007', 'test', ['000003'], [dog, hard])
    return folder


def test_years_are_one_dataset(root):
    dataset = VOCYears(data_root=str(root))
    assert len(dataset) == 4
    paths = [Path(dataset.get_data_info(index)['img_path']) for index in range(4)]
    assert [path.relative_to(root).parts[0] for path in paths] == 2 * ['VOC2007'] + 2 * ['VOC2012']
    assert all(path.is_file() for path in paths)
    dog, hard = dataset.get_data_info(0)['instances']
    # VOC counts pixels from 1.
    assert dog == dict(ignore_flag=0, bbox=[20, 10, 40, 50], bbox_label=11)
    assert (hard['ignore_flag'], hard['bbox_label']) == (1, 14)
    assert len(VOCYears(data_root=str(root), years=['VOC2007'], subset='test')) == 1


def test_a_split_is_drawn_from_all_years(root):
    dataset = SourceDataset(
        dict(labeled=dict(type='castkd.VOCYears', data_root=str(root))),
        split=dict(fraction=0.5, seed=0),
    )
    assert dataset.sizes == dict(labeled=2)
    assert all(name.split('/')[1] == 'JPEGImages' for name in dataset.split.labeled)
    assert {name.split('/')[0] for name in dataset.split.labeled} <= {'VOC2007', 'VOC2012'}


@pytest.mark.parametrize(
    'options', [dict(years=[]), dict(years='VOC2007'), dict(ann_file='trainval.txt')]
)
def test_wrong_options_are_named(root, options):
    with pytest.raises(ConfigError, match='VOCYears: give years') as caught:
        VOCYears(data_root=str(root), **options)
    assert '\n' not in str(caught.value)


def test_a_missing_year_is_named(root):
    source = dict(type='castkd.VOCYears', data_root=str(root), years=['VOC2007', 'VOC2011'])
    with pytest.raises(DataError, match=r'VOC2011/ImageSets/Main/trainval\.txt') as caught:
        SourceDataset(dict(labeled=source))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('old', 'new', 'text'),
    [
        (None, None, 'does not exist; check the path'),
        ('</annotation>', '', r'cannot be read \(ParseError: .*\); mend it, or fetch it again'),
        ('<width>80</width>', '', r'cannot be read \(AttributeError: .*\); mend it, or fetch it'),
        ('<xmax>41<', '<xmax>20<', r'has a box \[20, 10, 19, 50\] .* that is inverted or leaves'),
        ('<ymax>51<', '<ymax>63<', r'has a box \[20, 10, 40, 62\] .* its image of 80 x 60'),
        ('>dog<', '>dug<', r"has an object 'dug', which is no class; did you mean 'dog'"),
        ('<ymax>51<', '<ymax>62<', None),
        ('<xmax>41<', '<xmax>21<', None),
    ],
    ids=[
        'missing',
        'truncated',
        'no size',
        'inverted box',
        'box outside',
        'unknown class',
        'a pixel more',
        'a pixel wide',
    ],
)
def test_wrong_annotations_are_named(root, old, new, text):
    file = root / 'VOC2012/Annotations/2008_000002.xml'
    if old is None:
        file.unlink()
    else:
        file.write_text(file.read_text().replace(old, new))
    source = dict(type='castkd.VOCYears', data_root=str(root))
    if text is None:
        assert SourceDataset(dict(labeled=source)).sizes == dict(labeled=4)
        return
    with pytest.raises(DataError, match=rf"annotation '.*/2008_000002\.xml' {text}") as caught:
        SourceDataset(dict(labeled=source))
    assert '\n' not in str(caught.value)


def test_objects_of_other_classes_are_left_out(root):
    dataset = VOCYears(data_root=str(root), metainfo=dict(classes=('person', 'zebra')))
    found = dataset.get_data_info(0)['instances']
    assert [item['bbox_label'] for item in found] == [0]


STAGE = """
_base_ = [
    '{configs}/gid/voc/base.py',
    '{configs}/_base_/methods/supervised.py',
]
from castkd.architectures import retinanet

student = retinanet(20, depth=18, base_channels=8, channels=16, stacked_convs=1)
student['test_cfg']['score_thr'] = 0.0
model = dict(student=student, classes=_base_.classes)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    batch_sampler=dict(counts=dict(labeled=2)),
    dataset=dict(split=dict(fraction=1.0)),
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
param_scheduler = []
train_cfg = dict(max_iters=1)
"""


@pytest.mark.slow
def test_a_detector_is_trained_and_judged(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Asking the machine for its compilers takes a second.
    monkeypatch.setattr('mmengine.runner.runner.collect_env', dict)
    (tmp_path / 'stage.py').write_text(STAGE.format(configs=CONFIGS))
    call(train, tmp_path / 'stage.py', '--work-dir', tmp_path / 'work')
    lines = next((tmp_path / 'work').glob('*/vis_data/scalars.json')).read_text().splitlines()
    told = json.loads(lines[-1])
    assert {'pascal_voc/mAP', 'pascal_voc/AP50', 'pascal_voc/AP75'} <= set(told)
    assert all(0 <= told[f'pascal_voc/{name}'] <= 1 for name in ('mAP', 'AP50', 'AP75'))
