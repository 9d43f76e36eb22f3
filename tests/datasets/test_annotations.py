"""What a COCO annotation file may get wrong; see tests/test_bad_input.py for the command that refuses it."""

import json

import mmdet.datasets  # noqa: F401  (registers datasets and transforms)
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from castkd.datasets import SourceDataset
from castkd.datasets.splits import draw_split
from castkd.errors import DataError
from castkd.registry import DATASETS
from tests.datasets.small_coco import coco, folder, names, write_images


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path)
    return tmp_path


def run_lengths(mask):
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': code['size'], 'counts': code['counts'].decode()}


def change(root, **values):
    """Change the annotation of the first image, whose id is 0."""
    content = json.loads((root / 'train.json').read_text())
    content['annotations'][0].update(values)
    (root / 'train.json').write_text(json.dumps(content))


def read(root, **options):
    return SourceDataset({'labeled': coco(root, **options)})


def test_other_forms_of_masks_and_boxes_over_the_border_pass(root):
    mask = np.zeros((24, 32), bool)
    mask[3:9, 5:20] = True
    for form in (
        run_lengths(mask),
        {'size': [24, 32], 'counts': [100, 20, 648]},
        [[1, 2], [4, 4, 20, 4, 20, 20]],
    ):
        change(root, segmentation=form)
        assert read(root).sizes == {'labeled': 12}
    change(root, bbox=[-5, -5, 20, 60])
    assert read(root).sizes == {'labeled': 12}


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'segmentation': [[40, 4, 50, 4, 50, 20]]}, 'has an empty mask'),
        ({'segmentation': [[4, 4, 20, 20]]}, 'has an empty mask'),
        ({'segmentation': []}, 'has an empty mask'),
        ({'segmentation': run_lengths(np.zeros((24, 32))), 'area': 0}, 'has an empty mask'),
        ({'segmentation': {'size': [24, 32], 'counts': 7}}, 'has a mask that cannot be decoded'),
        ({'segmentation': {'counts': 'abc'}}, r'has a mask of None .* its image has \[24, 32\]'),
        ({'bbox': [32, 4, 5, 5]}, r'has a box outside its image of 32 x 24: \[32, 4, 5, 5\]'),
        ({'bbox': [4, -9, 5, 9]}, 'has a box outside its image'),
    ],
)
def test_wrong_annotations_are_refused(root, values, text):
    change(root, **values)
    wanted = rf"^source 'labeled': '.*train.json': annotation 0 of image 'city0/00.png' {text}"
    with pytest.raises(DataError, match=wanted):
        read(root)


def test_the_others_are_counted(root):
    content = json.loads((root / 'train.json').read_text())
    for annotation in content['annotations'][3:]:
        annotation['category_id'] = 7
    (root / 'train.json').write_text(json.dumps(content))
    text = (
        r'annotation 3 .* category_id 7, .* categories \(1\); .* \(8 more annotations are wrong\)$'
    )
    with pytest.raises(DataError, match=text):
        read(root)


def test_objects_that_have_no_size_in_the_file_are_left_out_and_told(root, monkeypatch):
    """COCO has such polygons, and mmdet leaves them out."""
    lines = []
    monkeypatch.setattr(
        'castkd.datasets.annotations.print_log', lambda line, *_: lines.append(line)
    )
    change(root, bbox=[4, 4, 1.03, 0.0], area=0.0, segmentation=[[4, 4, 4, 4, 5.03, 4, 5.03, 4]])
    assert read(root, filter_cfg=None).sizes == {'labeled': 12}
    (line,) = lines
    assert line.endswith('1 objects without a size are left out')


def test_files_of_boxes_need_no_masks(root):
    content = json.loads((root / 'train.json').read_text())
    for annotation in content['annotations']:
        annotation['segmentation'] = []
    (root / 'train.json').write_text(json.dumps(content))
    assert read(root).sizes == {'labeled': 12}


def test_annotations_of_the_pool_are_not_looked_at(root):
    split = {'count': 3, 'seed': 0}
    labeled = draw_split(names(), count=3).labeled
    content = json.loads((root / 'train.json').read_text())
    for annotation, name in zip(content['annotations'], names(), strict=True):
        annotation['category_id'] = 1 if name in labeled else 7
    (root / 'train.json').write_text(json.dumps(content))
    sources = {'labeled': coco(root), 'unlabeled': folder(root)}
    assert SourceDataset(sources, split).sizes == {'labeled': 3, 'unlabeled': 9}
    chosen = [names().index(name) for name in labeled]
    assert read(root, indices=chosen, filter_cfg=None).sizes == {'labeled': 3}
    with pytest.raises(DataError, match=r'category_id 7.*8 more'):
        read(root)


def test_all_wrong_is_told_by_its_cause(root):
    """The filter of the data set would only say that no image is left."""
    content = json.loads((root / 'train.json').read_text())
    for annotation in content['annotations']:
        annotation['category_id'] = 7
    (root / 'train.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'category_id 7.*11 more'):
        read(root)


@pytest.mark.parametrize(
    ('classes', 'text'),
    [
        (('thing', 'person'), "names 'person', which is no category .* known: 'other', 'thing'"),
        (('thign',), "names 'thign', .* did you mean 'thing'"),
        (
            ('thing', 'other'),
            r"in the order of the file, \('other', 'thing'\); .* not as \('thing'",
        ),
    ],
)
def test_classes_must_be_the_categories_of_the_file(root, classes, text):
    content = json.loads((root / 'train.json').read_text())
    content['categories'] = [{'id': 4, 'name': 'other'}, {'id': 1, 'name': 'thing'}]
    (root / 'train.json').write_text(json.dumps(content))
    assert read(root, metainfo={'classes': ('thing',)}).sizes == {'labeled': 12}
    with pytest.raises(DataError, match=text):
        read(root, metainfo={'classes': classes})


def test_mmdet_numbers_classes_in_the_order_of_the_file(root):
    """Why another order is refused; when this fails, mmdet follows metainfo.classes and the check can go."""
    content = json.loads((root / 'train.json').read_text())
    content['categories'] = [{'id': 4, 'name': 'other'}, {'id': 1, 'name': 'thing'}]
    (root / 'train.json').write_text(json.dumps(content))
    config = coco(root, metainfo={'classes': ('thing', 'other')}, pipeline=[])
    dataset = DATASETS.build(config)
    assert dataset.get_data_info(0)['instances'][0]['bbox_label'] == 1
