"""Maps of class indices are read as they are, or refused in one line."""

import numpy as np
import pytest
from PIL import Image

from castkd.datasets.index_maps import LoadSemanticAnnotations
from castkd.errors import ConfigError, DataError
from tests.semantic_fixtures import write_map

LABELS = np.array([[0, 1, 2], [255, 1, 0]], dtype=np.uint8)


def load(path, labels=None, num_classes=3, palette=False, ori_shape=(2, 3), **results):
    if labels is not None:
        write_map(path, labels)
    given = {'img_path': 'a.jpg', 'seg_map_path': str(path), 'ori_shape': ori_shape, **results}
    return LoadSemanticAnnotations(num_classes, palette)(given)


def test_indices_are_read_as_they_are(tmp_path):
    results = load(tmp_path / 'a.png', LABELS, seg_fields=[])
    assert results['gt_seg_map'].dtype == np.uint8
    assert results['gt_seg_map'].tolist() == LABELS.tolist()
    assert results['seg_fields'] == ['gt_seg_map']


def test_datasets_may_number_classes_anew(tmp_path):
    reduced = load(tmp_path / 'a.png', [[0, 1, 3], [255, 2, 0]], reduce_zero_label=True)
    assert reduced['gt_seg_map'].tolist() == [[255, 0, 2], [255, 1, 255]]
    # Swapping needs the old indices throughout.
    mapped = load(tmp_path / 'a.png', LABELS, label_map={0: 1, 1: 0, 2: 255})
    assert mapped['gt_seg_map'].tolist() == [[1, 0, 255], [255, 0, 1]]


def test_palette_indices_are_taken_only_when_asked(tmp_path):
    path = tmp_path / 'a.png'
    write_map(path, LABELS, mode='P')
    assert load(path, palette=True)['gt_seg_map'].tolist() == LABELS.tolist()
    with pytest.raises(DataError, match=r"a\.png' is a PNG with a palette.* set palette=True"):
        load(path)


@pytest.mark.parametrize(
    ('mode', 'words'),
    [
        ('RGB', r'has colours \(RGB\)'),
        ('RGBA', r'has colours \(RGBA\)'),
        ('LA', 'has grey values with transparency'),
        ('1', 'has one bit per pixel'),
        ('I;16', 'has 16 bits per pixel'),
    ],
)
def test_other_kinds_of_pixels_are_refused(tmp_path, mode, words):
    if mode == 'I;16':
        Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / 'a.png')
    else:
        Image.fromarray(LABELS).convert(mode).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path / 'a.png', palette=True)
    assert 'an index map is expected' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_another_size_than_the_image_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"2 x 3 pixels .* its image 'a\.jpg' has 3 x 2"):
        load(tmp_path / 'a.png', LABELS, ori_shape=(3, 2))


def test_indices_outside_the_classes_are_refused(tmp_path):
    labels = np.array([[0, 7, 7], [254, 3, 255]])
    words = (
        r'a\.png. has 4 pixels with indices outside the 3 classes \(3, 7, 254\); allowed are 0 to 2'
    )
    with pytest.raises(DataError, match=words):
        load(tmp_path / 'a.png', labels)
    with pytest.raises(DataError, match=r'has 1 pixels .*\(4\)'):
        load(tmp_path / 'a.png', [[0, 1, 3], [255, 4, 0]], reduce_zero_label=True)


def test_a_cut_or_missing_file_is_refused(tmp_path):
    path = tmp_path / 'a.png'
    write_map(path, np.random.default_rng(0).integers(0, 3, (50, 60)))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(DataError, match=r"a\.png' is no whole image"):
        load(path, ori_shape=(50, 60))
    path.write_bytes(b'')
    with pytest.raises(DataError, match=r'is no whole image \(0 bytes\)'):
        load(path)
    with pytest.raises(DataError, match='does not exist; check data_root'):
        load(tmp_path / 'b.png')
    with pytest.raises(DataError, match='cannot be read'):
        load(tmp_path)


def test_255_is_no_class():
    with pytest.raises(ConfigError, match='num_classes must be an integer in'):
        LoadSemanticAnnotations(256)
