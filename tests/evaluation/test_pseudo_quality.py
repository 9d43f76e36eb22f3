import json

import numpy as np
import pytest

from castkd.datasets.pseudo_store import encode_masks
from castkd.errors import DataError
from castkd.evaluation.pseudo_quality import Reference


@pytest.fixture
def reference(tmp_path):
    """Write a reference with two images; the first has a car as polygon and a crowd of cars."""
    content = {
        'images': [
            {'id': 7, 'file_name': 'a.png', 'width': 20, 'height': 10},
            {'id': 9, 'file_name': 'b.png', 'width': 20, 'height': 10},
        ],
        'categories': [{'id': 5, 'name': 'tree'}, {'id': 3, 'name': 'car'}],
        'annotations': [
            annotation(1, 7, 3, [[0, 0, 8, 0, 8, 6, 0, 6]]),
            annotation(2, 7, 3, {'size': [10, 20], 'counts': [120, 80]}, iscrowd=1),
            annotation(3, 9, 5, [[0, 0, 8, 0, 8, 6, 0, 6]]),
        ],
    }
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    return path


def annotation(number, image, category, segmentation, iscrowd=0):
    return {
        'id': number,
        'image_id': image,
        'category_id': category,
        'segmentation': segmentation,
        'iscrowd': iscrowd,
    }


def label(left, right, category=1, score=0.9):
    mask = np.zeros((1, 10, 20), bool)
    mask[:, :6, left:right] = True
    return {'segmentation': encode_masks(mask)[0], 'category_id': category, 'score': score}


def test_quality(reference):
    images = [
        # Right; wrong; inside the crowd.
        {'file_name': 'a.png', 'annotations': [label(0, 8), label(9, 12), label(14, 20)]},
        {'file_name': 'b.png', 'annotations': [label(0, 8)]},
        {'file_name': 'unknown.png', 'annotations': [label(0, 8)]},
    ]
    quality = Reference(reference, ('car',), ['a.png', 'b.png']).quality(images)
    assert quality['images'] == 2
    assert quality['predictions'] == 3
    assert quality['precision'] == pytest.approx(1 / 3)
    assert (quality['instances'], quality['recall']) == (1, 1.0)


def test_class_without_a_category(reference):
    with pytest.raises(DataError, match=r"has no category 'cars'; did you mean 'car'\?"):
        Reference(reference, ('cars',), ['a.png'])


def test_other_images(reference):
    with pytest.raises(DataError, match='has none of the images'):
        Reference(reference, ('car',), ['c.png'])


def test_missing_and_damaged_file(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        Reference(tmp_path / 'none.json', ('car',), ['a.png'])
    (tmp_path / 'bad.json').write_text('[1, 2]')
    with pytest.raises(DataError, match='is no COCO annotation file'):
        Reference(tmp_path / 'bad.json', ('car',), ['a.png'])
