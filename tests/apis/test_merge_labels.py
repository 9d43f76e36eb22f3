"""Pseudo-label files of several teachers as one."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from castkd.apis.merge_labels import merge_labels
from castkd.datasets.pseudo_store import (
    coco_content,
    decode_masks,
    instance_records,
    read_pseudo_labels,
)
from castkd.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
CLASSES = ('car', 'person')


def write(path, images, classes=CLASSES):
    """Write a label file; per image name a list of (label, score, mask score, first and last column of ten)."""
    records = []
    for name, instances in images.items():
        masks = torch.zeros(len(instances), 2, 10, dtype=torch.bool)
        for mask, (_, _, _, start, stop) in zip(masks, instances, strict=True):
            mask[:, start:stop] = True
        columns = list(zip(*instances, strict=True)) or [(), (), ()]
        labels, scores, mask_scores = (torch.tensor(column) for column in columns[:3])
        annotations = instance_records(masks, labels.long(), scores, mask_scores)
        size = {'width': 10, 'height': 2}
        records.append({'file_name': name, **size, 'annotations': annotations})
    path.write_text(json.dumps(coco_content(records, classes, {'checkpoint': path.stem})))
    return path


@pytest.fixture
def files(tmp_path):
    first = {'a.png': [(0, 0.6, 0.9, 0, 4), (1, 0.5, 0.5, 3, 8)], 'b.png': []}
    second = {'b.png': [(1, 0.8, 0.4, 0, 3)], 'a.png': [(0, 0.8, 0.3, 0, 5)]}
    return [write(tmp_path / 'first.json', first), write(tmp_path / 'second.json', second)]


def test_instances_are_matched_across_files_and_overlaps_settled(files, tmp_path):
    summary = merge_labels(files, [0.3, 0.1], tmp_path / 'merged.json')
    labels = read_pseudo_labels(tmp_path / 'merged.json')
    assert labels.classes == CLASSES
    one, two = labels.images
    assert [item['category_id'] for item in one['annotations']] == [1, 2]
    scores = [item['score'] for item in one['annotations']]
    assert scores == pytest.approx([0.26 / 0.4, 0.15 / 0.4])
    masks = decode_masks(one)
    assert [mask[0].nonzero()[0].tolist() for mask in masks] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [item['score'] for item in two['annotations']] == pytest.approx([0.2])
    assert summary['num_instances'] == 3
    assert [item['weight'] for item in labels.info['merged']] == [0.3, 0.1]
    assert labels.info['merged'][1]['checkpoint'] == 'second'


def test_scores_are_filtered_after_merging(files, tmp_path):
    assert merge_labels(files, [0.3, 0.1], tmp_path / 'm.json', score_thr=0.3)['num_instances'] == 2
    # Without a match each car counts alone, and nothing is left of the second one's pixels.
    merge_labels(files, [0.3, 0.1], tmp_path / 'm.json', iou_thr=0.9)
    one, _ = read_pseudo_labels(tmp_path / 'm.json').images
    scores = [item['score'] for item in one['annotations']]
    assert scores == pytest.approx([0.18 / 0.4, 0.15 / 0.4])


def test_files_that_do_not_fit_are_one_line(files, tmp_path):
    other = write(tmp_path / 'other.json', {'a.png': [], 'c.png': []})
    classes = write(tmp_path / 'classes.json', {'a.png': [], 'b.png': []}, ('car', 'tree'))
    out = tmp_path / 'out.json'
    with pytest.raises(DataError, match=r"'b.png' is not the same in both"):
        merge_labels([files[0], other], [1, 1], out)
    with pytest.raises(DataError, match='label with the same classes'):
        merge_labels([files[0], classes], [1, 1], out)
    with pytest.raises(ConfigError, match='a weight for each, got 2 files and 1 weights'):
        merge_labels(files, [1], out)
    with pytest.raises(ConfigError, match=r'weight of .* must be'):
        merge_labels(files, [1, 0], out)
    assert not out.exists()


def test_the_tool_says_what_it_wrote(files, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'merged.json'
    arguments = [*map(str, files), '--weights', '0.3', '0.1', '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['merge_labels.py', *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / 'merge_labels.py'), run_name='__main__')
    assert end.value.code == 0
    assert capsys.readouterr().out.endswith('merged.json: 3 instances of 2 images\n')


def test_files_can_be_weighted_by_agreement(files, tmp_path, monkeypatch, capsys):
    """Image a: the first two agree by 0.8 on a car, the third on nothing; in b the second one stands alone."""
    third = write(tmp_path / 'third.json', {'a.png': [(1, 0.9, 0.9, 0, 2)], 'b.png': []})
    out = tmp_path / 'merged.json'
    arguments = [*map(str, [*files, third]), '--weights', 'agreement', '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['merge_labels.py', *arguments])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / 'merge_labels.py'), run_name='__main__')
    assert end.value.code == 0, capsys.readouterr().err
    labels = read_pseudo_labels(out)
    assert [item['weight'] for item in labels.info['merged']] == ['agreement'] * 3
    one, two = labels.images
    # Equal weights of the first two: the mean of 0.6 and 0.8, and half of 0.5.
    assert [item['score'] for item in one['annotations']] == pytest.approx([0.7, 0.25])
    assert two['annotations'] == []
    with pytest.raises(ConfigError, match='needs three teachers or more, got 2'):
        merge_labels(files, 'agreement', out)
