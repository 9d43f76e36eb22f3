import json

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset

from castkd.datasets.pseudo_store import (
    coco_content,
    decode_masks,
    instance_records,
    read_pseudo_labels,
)
from castkd.errors import DataError


def stored_content():
    masks = torch.zeros(2, 5, 7, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 0] = True
    records = instance_records(
        masks, torch.tensor([1, 0]), torch.tensor([0.9, 0.3]), torch.tensor([0.7, 0.1])
    )
    images = [
        {'file_name': 'a.png', 'width': 7, 'height': 5, 'annotations': records},
        {'file_name': 'b/c.png', 'width': 9, 'height': 4, 'annotations': []},
        {'file_name': 'd.png', 'width': 7, 'height': 5, 'annotations': records},
    ]
    return masks, coco_content(images, ('car', 'person'), {'origin': 'test'})


def test_round_trip(tmp_path):
    masks, content = stored_content()
    path = tmp_path / 'labels.json'
    path.write_text(json.dumps(content))
    labels = read_pseudo_labels(path)
    assert labels.classes == ('car', 'person')
    assert [image['id'] for image in labels.images] == [1, 2, 3]
    first = labels.images[0]
    assert np.array_equal(decode_masks(first), masks.numpy())
    assert [item['category_id'] for item in first['annotations']] == [2, 1]
    assert [item['bbox'] for item in first['annotations']] == [[2, 1, 4, 2], [0, 4, 1, 1]]
    assert [item['area'] for item in first['annotations']] == [8, 1]
    scores = [item['score'] for item in first['annotations']]
    assert torch.equal(torch.tensor(scores), torch.tensor([0.9, 0.3]))
    mask_scores = [item['mask_score'] for item in first['annotations']]
    assert torch.equal(torch.tensor(mask_scores), torch.tensor([0.7, 0.1]))


def test_ids_are_unique_in_the_file_and_counts_are_told():
    _, content = stored_content()
    assert [item['id'] for item in content['annotations']] == [1, 2, 3, 4]
    assert [item['image_id'] for item in content['annotations']] == [1, 1, 3, 3]
    info = content['info']
    assert info['origin'] == 'test'
    assert info['num_images'] == 3
    assert info['num_images_without_instances'] == 1
    assert info['num_instances'] == 4
    assert info['num_instances_per_class'] == {'car': 2, 'person': 2}


def test_image_without_instances_has_the_right_size(tmp_path):
    _, content = stored_content()
    (tmp_path / 'labels.json').write_text(json.dumps(content))
    empty = read_pseudo_labels(tmp_path / 'labels.json').images[1]
    assert empty['annotations'] == []
    assert decode_masks(empty).shape == (0, 4, 9)


@pytest.mark.parametrize('drop_empty', [True, False])
def test_mmdet_reads_the_file(tmp_path, drop_empty):
    masks, content = stored_content()
    (tmp_path / 'labels.json').write_text(json.dumps(content))
    dataset = CocoDataset(
        ann_file=str(tmp_path / 'labels.json'),
        metainfo={'classes': ('car', 'person')},
        data_prefix={'img': ''},
        filter_cfg={'filter_empty_gt': drop_empty},
        pipeline=[],
    )
    assert len(dataset) == (2 if drop_empty else 3)
    instances = dataset.get_data_info(0)['instances']
    assert [instance['bbox_label'] for instance in instances] == [1, 0]
    assert instances[0]['mask']['size'] == list(masks.shape[1:])


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match='does not exist'):
        read_pseudo_labels(tmp_path / 'none.json')
    path = tmp_path / 'labels.json'
    path.write_text('{"info": {')
    with pytest.raises(DataError, match=r"labels\.json' is no pseudo-label file or damaged"):
        read_pseudo_labels(path)
    path.write_text('{"images": []}')
    with pytest.raises(DataError, match='is no pseudo-label file or damaged'):
        read_pseudo_labels(path)
    _, content = stored_content()
    content['info']['format_version'] = 99
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match='format version 99'):
        read_pseudo_labels(path)
