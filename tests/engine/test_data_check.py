"""The data of a training are looked at before its first step."""

import json
from types import SimpleNamespace

import mmdet.datasets  # noqa: F401  (registers datasets and transforms)
import pytest
from mmengine.dataset import ConcatDataset
from torch import nn

from castkd.datasets import SourceDataset
from castkd.datasets.splits import draw_split
from castkd.engine.data_check import check_loader_data, check_training_data
from castkd.errors import ConfigError, DataError
from castkd.registry import DATASETS
from tests.datasets.small_coco import coco, folder, names, write_annotations, write_images
from tests.engine.toy_project import ToyData

LABELED = draw_split(names(), count=4).labeled


@pytest.fixture
def root(tmp_path):
    """Twelve images, of which the annotation files cut off two for validation."""
    write_images(tmp_path)
    write_annotations(tmp_path / 'labeled.json', LABELED, names())
    rest = [name for name in names() if name not in LABELED]
    write_annotations(tmp_path / 'pseudo.json', rest[2:], names())
    write_annotations(tmp_path / 'val.json', rest[:2], names())
    return tmp_path


def with_validation(root, ann_file='val.json', **options):
    dataset = coco(root, ann_file, test_mode=True, **options)
    return {'default_scope': 'mmdet', 'val_dataloader': {'dataset': dataset}}


def check(config, sources, used=('labeled', 'unlabeled'), model=None):
    check_training_data(config, SourceDataset(sources), used, model or nn.Identity())


def test_images_that_are_apart_pass(root):
    sources = {'labeled': coco(root, 'labeled.json'), 'unlabeled': coco(root, 'pseudo.json')}
    check(with_validation(root), sources)
    check({}, sources)


def test_labelled_images_in_the_pool_are_counted(root):
    sources = {'labeled': coco(root, 'labeled.json'), 'unlabeled': folder(root)}
    text = (
        r"source 'labeled' and source 'unlabeled' share 4 of 12 images, for example '.*png'; take"
    )
    with pytest.raises(DataError, match=text):
        check({}, sources)
    check({}, sources, used=['labeled'])


def test_two_pools_may_share_images(root):
    sources = {'labeled': coco(root, 'labeled.json'), 'unlabeled': coco(root, 'pseudo.json')}
    check({}, {**sources, 'again': coco(root, 'pseudo.json')}, [*sources, 'again'])


@pytest.mark.parametrize('place', ['images', 'link'])
def test_validation_images_in_the_pool_are_counted(root, place):
    (root / 'link').symlink_to(root / 'images')
    config = with_validation(root, data_prefix={'img': place})
    with pytest.raises(DataError, match=r"'unlabeled' and val_dataloader share 2 of 2 images"):
        check(config, {'unlabeled': folder(root)}, ['unlabeled'])


def test_validation_images_with_training_labels_are_counted(root):
    config = with_validation(root, 'labeled.json')
    text = 'labeled. and val_dataloader share 4 of 4'
    with pytest.raises(DataError, match=text):
        check(config, {'labeled': coco(root, 'labeled.json')}, ['labeled'])
    plain = DATASETS.build(coco(root, 'train.json'))
    with pytest.raises(DataError, match='train_dataloader and val_dataloader share 4 of 4'):
        check_training_data(config, plain, ['labeled'], nn.Identity())


def test_validation_data_are_read_once_before(root):
    with pytest.raises(DataError, match=r"val_dataloader\.dataset: '.*none\.json' cannot be read"):
        check_loader_data(with_validation(root, 'none.json'), 'val_dataloader')
    content = json.loads((root / 'val.json').read_text())
    content['annotations'][1]['category_id'] = 5
    (root / 'val.json').write_text(json.dumps(content))
    text = r"val_dataloader\.dataset: '.*val\.json': annotation 1 .* category_id 5"
    with pytest.raises(DataError, match=text):
        check_loader_data(with_validation(root), 'val_dataloader')


def test_what_holds_no_image_files_is_not_looked_at(root):
    config = {'default_scope': 'mmengine', 'val_dataloader': {'dataset': {'type': 'ToyData'}}}
    assert check_loader_data(config, 'val_dataloader') == []
    wrapped = {'type': ConcatDataset, 'datasets': [coco(root, 'none.json')]}
    assert check_loader_data({'test_dataloader': {'dataset': wrapped}}, 'test_dataloader') == []
    check_training_data(config, ToyData(), ['labeled'], nn.Identity())


def test_a_distiller_learns_the_classes_of_its_labels(root):
    sources = {'labeled': coco(root, 'labeled.json')}
    model = SimpleNamespace(teachers={}, classes=None)
    check({}, sources, ['labeled'], model)
    assert model.classes == ('thing',)
    check({}, sources, ['labeled'], model)
    model.classes = ('thing', 'other')
    with pytest.raises(
        ConfigError, match=r"model\.classes are \('thing', 'other'\), but the train"
    ):
        check({}, sources, ['labeled'], model)


def test_a_segmentor_has_an_output_per_class(root):
    sources = {'labeled': coco(root, 'labeled.json')}
    student = SimpleNamespace(decode_head=None, num_classes=1)
    check({}, sources, ['labeled'], SimpleNamespace(teachers={}, classes=None, student=student))
    student.num_classes = 3
    with pytest.raises(
        ConfigError, match=r'num_classes is 3, but the training data have 1 classes'
    ):
        check({}, sources, ['labeled'], SimpleNamespace(teachers={}, classes=None, student=student))
