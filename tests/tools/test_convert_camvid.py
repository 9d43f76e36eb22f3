"""The converter of CamVid, on a folder in the form of the SegNet tutorial."""

import cv2
import numpy as np
import pytest

from castkd.errors import DataError
from tests.fixtures import random_image
from tests.semantic_fixtures import random_labels, write_map
from tools.convert import camvid


def make_original(root):
    rng = np.random.default_rng(0)
    truth = {}
    for split in ('train', 'val'):
        for index in range(2):
            labels = random_labels(rng, 11)
            truth[split, f'000{index}TP'] = image, labels = random_image(rng), labels
            path = root / split / f'000{index}TP.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image)
            write_map(root / f'{split}annot' / path.name, np.where(labels == 255, 11, labels))
    return truth


def convert(tmp_path):
    options = [str(tmp_path / 'CamVid'), '--out', str(tmp_path / 'data')]
    camvid.run(camvid.parse_arguments(options))


def test_void_becomes_255_and_images_stay(tmp_path):
    truth = make_original(tmp_path / 'CamVid')
    convert(tmp_path)
    for (split, name), (image, labels) in truth.items():
        stored = cv2.imread(str(tmp_path / 'data/images' / split / f'{name}.jpg'))
        assert np.abs(stored.astype(int) - image).mean() < 4
        path = tmp_path / 'data/labels' / split / f'{name}.png'
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), labels)


def test_other_maps_are_refused_and_leave_nothing(tmp_path):
    make_original(tmp_path / 'CamVid')
    path = tmp_path / 'CamVid/valannot/0001TP.png'
    write_map(path, np.full((48, 64), 12))
    with pytest.raises(DataError, match=r"0001TP\.png' is no map of the indices 0 to 11"):
        convert(tmp_path)
    assert not (tmp_path / 'data').exists()
    path.unlink()
    with pytest.raises(DataError, match='cannot be read'):
        convert(tmp_path)


def test_another_folder_is_told(tmp_path):
    with pytest.raises(DataError, match='holds no PNG image; give the folder CamVid'):
        convert(tmp_path)
