import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks

from castkd.datasets.pseudo_store import encode_masks
from castkd.errors import ConfigError
from castkd.evaluation.matching import PrecisionRecall, match_instances, to_run_lengths


def strip(*spans, width=20):
    """Return masks (N, 1, width) that cover columns [start, end)."""
    masks = np.zeros((len(spans), 1, width), bool)
    for mask, (start, end) in zip(masks, spans, strict=True):
        mask[:, start:end] = True
    return masks


@pytest.mark.parametrize('form', ['array', 'tensor', 'bitmap', 'run lengths'])
def test_every_form_of_masks(form):
    masks = strip((0, 10), (5, 9))
    forms = {
        'array': masks,
        'tensor': torch.from_numpy(masks),
        'bitmap': BitmapMasks(masks.astype(np.uint8), 1, 20),
        'run lengths': encode_masks(masks),
    }
    assert to_run_lengths(forms[form]) == encode_masks(masks)


def test_best_score_takes_the_instance_once():
    # Both predictions fit the first truth; the better scored one is the worse fit and still wins.
    matches = match_instances(
        strip((0, 10), (0, 8)), [0.5, 0.9], [0, 0], strip((0, 10), (12, 20)), [0, 0]
    )
    assert matches.target.tolist() == [-1, 0]
    assert matches.true_positive.tolist() == [False, True]
    assert matches.found.tolist() == [True, False]


def test_prediction_takes_the_best_free_instance():
    matches = match_instances(strip((0, 10)), [0.9], [0], strip((0, 6), (0, 9)), [0, 0])
    assert matches.target.tolist() == [1]


def test_classes_have_to_agree():
    matches = match_instances(strip((0, 10)), [0.9], [1], strip((0, 10)), [0])
    assert matches.target.tolist() == [-1]


def test_overlap_at_the_threshold_counts():
    # Intersection 5, union 10.
    arguments = (strip((0, 5)), [0.9], [0], strip((0, 10)), [0])
    assert match_instances(*arguments, iou_thr=0.5).target.tolist() == [0]
    assert match_instances(*arguments, iou_thr=0.51).target.tolist() == [-1]


def test_crowd_is_neither_right_nor_wrong():
    matches = match_instances(
        strip((0, 4), (10, 14)), [0.9, 0.8], [0, 0], strip((0, 10)), [0], gt_crowd=[1]
    )
    assert matches.target.tolist() == [-1, -1]
    assert matches.ignored.tolist() == [True, False]
    assert matches.found.tolist() == [False]


@pytest.mark.parametrize(('predicted', 'real'), [(0, 1), (1, 0), (0, 0)])
def test_nothing_on_a_side(predicted, real):
    matches = match_instances(
        strip(*[(0, 5)] * predicted),
        [0.9] * predicted,
        [0] * predicted,
        strip(*[(0, 5)] * real),
        [0] * real,
    )
    assert matches.target.tolist() == [-1] * predicted
    assert matches.found.tolist() == [False] * real


def test_bad_threshold():
    with pytest.raises(ConfigError, match='iou_thr'):
        match_instances([], [], [], [], [], iou_thr=0.0)
    with pytest.raises(ConfigError, match='iou_thr'):
        PrecisionRecall(iou_thr=1.1)


def square(side, size=128):
    mask = np.zeros((1, size, size), bool)
    mask[:, :side, :side] = True
    return mask


def test_precision_and_recall_over_images():
    numbers = PrecisionRecall()
    # One right, one wrong; one of two found.
    numbers.update(strip((0, 5), (15, 20)), [0.9, 0.35], [0, 0], strip((0, 5), (8, 12)), [0, 0])
    # Nothing predicted, one missed.
    numbers.update(strip(), [], [], strip((0, 5)), [1])
    result = numbers.compute()
    assert result['precision'] == 0.5
    assert result['recall'] == pytest.approx(1 / 3)
    assert (result['predictions'], result['instances']) == (2, 3)
    by_score = {row['above']: row for row in result['by_score']}
    assert by_score[0.3]['precision'] == 0.5
    assert by_score[0.4]['precision'] == 1.0
    assert by_score[0.4]['recall'] == pytest.approx(1 / 3)
    assert by_score[0.9]['precision'] is None
    assert by_score[0.9]['recall'] == 0.0


def test_the_fit_of_what_is_right():
    numbers = PrecisionRecall()
    # 16 pixels predicted for 20 real ones, 10 for 16; the third lies beside everything.
    truths = strip((0, 10), (10, 18))
    numbers.update(strip((0, 8), (10, 15), (18, 20)), [0.9, 0.5, 0.8], [0] * 3, truths, [0, 0])
    result = numbers.compute()
    assert (result['recall'], result['recall_75']) == (1.0, 0.5)
    assert result['mean_iou'] == pytest.approx((0.8 + 0.625) / 2)
    assert result['area_ratio'] == pytest.approx((0.8 + 0.625) / 2)
    best = next(row for row in result['by_score'] if row['above'] == 0.6)
    assert (best['recall'], best['recall_75'], best['mean_iou']) == (0.5, 0.5, pytest.approx(0.8))
    nothing = PrecisionRecall().compute()
    assert [nothing[name] for name in ('recall_75', 'mean_iou', 'area_ratio')] == [None] * 3


def test_sizes_are_those_of_coco():
    numbers = PrecisionRecall()
    for side in (31, 32, 95, 96):
        numbers.update(square(side), [0.9], [0], square(side), [0])
    by_size = numbers.compute()['by_size']
    assert [by_size[name]['instances'] for name in ('small', 'medium', 'large')] == [1, 2, 1]
    assert [by_size[name]['predictions'] for name in ('small', 'medium', 'large')] == [1, 2, 1]


def test_areas_come_in_bins_that_double_and_hold_something():
    numbers = PrecisionRecall()
    # 9 pixels predicted for 16 real ones, IoU 9 / 16: each side counts in its own bin.
    numbers.update(square(3), [0.9], [0], square(4), [0])
    numbers.update(square(11), [0.9], [0], square(11), [1])
    by_area = numbers.compute()['by_area']
    assert [(row['from'], row['to']) for row in by_area] == [(8, 16), (16, 32), (64, 128)]
    assert [row['precision'] for row in by_area] == [1.0, None, 0.0]
    assert [row['recall'] for row in by_area] == [None, 1.0, 0.0]
    assert [(row['predictions'], row['instances']) for row in by_area] == [(1, 0), (0, 1), (1, 1)]
    assert PrecisionRecall().compute()['by_area'] == []


def test_crowd_is_not_counted():
    numbers = PrecisionRecall()
    numbers.update(strip((0, 4)), [0.9], [0], strip((0, 10)), [0], gt_crowd=[True])
    result = numbers.compute()
    assert (result['predictions'], result['instances']) == (0, 0)
    assert result['precision'] is None
    assert result['recall'] is None
