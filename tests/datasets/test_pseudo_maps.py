"""Label maps are read as they were made, or with a higher threshold by their confidence."""

import json

import numpy as np
import pytest

from castkd.datasets.index_maps import LoadSemanticAnnotations
from castkd.datasets.pseudo_maps import PseudoMapDataset, map_files, maps_content
from castkd.errors import ConfigError, DataError
from tests.semantic_fixtures import write_map

LABELS = np.array([[0, 1, 1], [255, 1, 0]], dtype=np.uint8)
# In steps of 1/255: the threshold of the labelling, 0.3, is 76.5, one of 0.6 is 153.
CONFIDENCE = np.array([[77, 153, 154], [76, 255, 153]], dtype=np.uint8)


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / 'labels.json'
    label_file, confidence_file = map_files(path, ['a.jpg'])['a.jpg']
    write_map(tmp_path / label_file, LABELS)
    write_map(tmp_path / confidence_file, CONFIDENCE)
    image = dict(file_name='a.jpg', width=3, height=2, labels=label_file)
    image.update(confidence=confidence_file, labels_sha256='', pixels=[2, 3])
    info = dict(options=dict(score_thr=0.3))
    path.write_text(json.dumps(maps_content([image], ['x', 'y'], info)))
    return path


def read(path, **options):
    dataset = PseudoMapDataset(ann_file=str(path), data_prefix=dict(img=''), **options)
    item = dataset.get_data_info(0)
    return LoadSemanticAnnotations(2)({**item, 'ori_shape': LABELS.shape})['gt_seg_map']


@pytest.mark.parametrize('options', [dict(), dict(score_thr=0.3)])
def test_maps_are_as_they_were_made(labels, options):
    assert read(labels, **options).tolist() == LABELS.tolist()


def test_a_higher_threshold_leaves_out_what_is_less_sure(labels):
    assert read(labels, score_thr=0.6).tolist() == [[255, 255, 1], [255, 1, 255]]
    assert (read(labels, score_thr=1.0) == 255).all()


def test_a_lower_threshold_is_refused_for_nothing_is_known_there(labels):
    with pytest.raises(
        ConfigError, match=r'score_thr=0\.2, but the maps of .* were made with 0\.3'
    ):
        read(labels, score_thr=0.2)
    with pytest.raises(ConfigError, match=r'score_thr must be a number in \[0, 1\]'):
        read(labels, score_thr=60)


def test_a_confidence_map_of_another_image_is_refused(labels):
    write_map(next(labels.parent.glob('labels.maps/confidence/*')), CONFIDENCE[:, :2])
    assert read(labels).tolist() == LABELS.tolist()
    with pytest.raises(DataError, match=r"confidence/a\.png' has 2 x 2 pixels"):
        read(labels, score_thr=0.6)
