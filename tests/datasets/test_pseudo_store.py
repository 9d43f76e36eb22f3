import json

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset

from castkd.datasets.pseudo_store import (
    FilterOptions,
    coco_content,
    decode_masks,
    filter_instances,
    instance_records,
    read_pseudo_labels,
    resolve_overlaps,
    select_instances,
)
from castkd.errors import ConfigError, DataError


def row_masks(*rows):
    """Return masks of one row of pixels from strings such as '110'."""
    return torch.tensor([[[pixel == '1' for pixel in row]] for row in rows])


def apart(number):
    """Return masks of one pixel each that do not overlap."""
    return torch.eye(number, dtype=torch.bool)[:, None]


def kept(scores, **options):
    scores = torch.tensor(scores)
    return select_instances(scores, scores, FilterOptions(**options)).tolist()


def test_threshold_is_strict():
    assert kept([0.9, 0.31, 0.30, 0.1], score_thr=0.3) == [0, 1]
    assert kept([0.5, 0.25], score_thr=0.25) == [0]


def test_unsorted_scores_give_the_same_set_best_first():
    assert kept([0.1, 0.31, 0.9, 0.30], score_thr=0.3) == [2, 1]


def test_mask_score_threshold_is_separate():
    scores, mask_scores = torch.tensor([0.9, 0.8, 0.2]), torch.tensor([0.2, 0.9, 0.9])
    options = FilterOptions(score_thr=0.3, mask_score_thr=0.5)
    assert select_instances(scores, mask_scores, options).tolist() == [1]


def test_max_per_image_keeps_the_best():
    assert kept([0.5, 0.9, 0.7], max_per_image=2) == [1, 2]


def test_nan_score_is_dropped():
    assert kept([float('nan'), 0.9]) == [1]


def test_first_writer_wins():
    settled = resolve_overlaps(row_masks('1110', '0011'), 'score')
    assert torch.equal(settled, row_masks('1110', '0001'))


def test_covered_mask_is_dropped():
    scores = torch.tensor([0.5, 0.9])
    indices, masks = filter_instances(scores, scores, row_masks('0110', '1111'), FilterOptions())
    assert indices.tolist() == [1]
    assert torch.equal(masks, row_masks('1111'))


def test_small_area_first_saves_thin_objects():
    scores = torch.tensor([0.9, 0.5])
    masks = row_masks('1111', '0110')
    indices, settled = filter_instances(scores, scores, masks, FilterOptions(overlap='area'))
    assert indices.tolist() == [0, 1]
    assert torch.equal(settled, row_masks('1001', '0110'))


def test_overlaps_may_stay():
    masks = row_masks('1110', '0011')
    assert torch.equal(resolve_overlaps(masks, 'keep'), masks)


def test_empty_masks_are_dropped_even_when_overlaps_stay():
    scores = torch.tensor([0.9, 0.8])
    options = FilterOptions(overlap='keep')
    indices, _ = filter_instances(scores, scores, row_masks('0000', '0100'), options)
    assert indices.tolist() == [1]


def test_slivers_of_a_second_mask_are_dropped_on_demand():
    masks = row_masks('111100', '011110', '000011')
    scores = torch.tensor([0.9, 0.8, 0.7])
    indices, settled = filter_instances(scores, scores, masks, FilterOptions())
    assert indices.tolist() == [0, 1, 2]
    assert settled[1].sum() == 1
    options = FilterOptions(min_kept=0.5)
    assert filter_instances(scores, scores, masks, options)[0].tolist() == [0, 2]


def test_min_area_counts_after_overlaps():
    scores = torch.tensor([0.9, 0.8])
    indices, _ = filter_instances(
        scores, scores, row_masks('1110', '0111'), FilterOptions(min_area=2)
    )
    assert indices.tolist() == [0]


def test_no_instances():
    indices, masks = filter_instances(
        torch.zeros(0), torch.zeros(0), torch.zeros(0, 4, 6, dtype=torch.bool), FilterOptions()
    )
    assert len(indices) == 0
    assert masks.shape == (0, 4, 6)


def test_inputs_stay_as_they_are():
    masks = row_masks('1110', '0011')
    before = masks.clone()
    filter_instances(torch.tensor([0.9, 0.8]), torch.ones(2), masks, FilterOptions())
    assert torch.equal(masks, before)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'score_thr': 1.5}, 'score_thr must be a number'),
        ({'mask_score_thr': -0.1}, 'mask_score_thr must be a number'),
        ({'max_per_image': 0}, 'max_per_image must be an integer'),
        ({'min_area': 0}, 'min_area must be an integer'),
        ({'overlap': 'are'}, "did you mean 'area'"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ConfigError, match=text):
        FilterOptions(**options)


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
