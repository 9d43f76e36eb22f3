"""Overlap of class maps, by hand and against mmseg's metric."""

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics import IoUMetric

from castkd.evaluation import MapOverlap


def test_by_hand():
    overlap = MapOverlap(4)
    overlap.update(np.array([[0, 0, 1], [1, 255, 2]]), np.array([[0, 1, 1], [255, 1, 0]]))
    found = overlap.compute()
    # Class 0: 1 of 3; class 1: 1 of 2; class 2: 0 of 1; class 3 occurs nowhere.
    assert found['IoU'] == [pytest.approx(1 / 3), 0.5, 0.0, None]
    assert found['mIoU'] == pytest.approx((1 / 3 + 1 / 2) / 3)
    assert found['accuracy'] == 0.5
    assert found['share'] == 0.8


def test_as_mmsegs_metric():
    rng = np.random.default_rng(0)
    overlap, sums = MapOverlap(5), []
    for size in ((7, 9), (12, 5)):
        predicted, truth = rng.integers(0, 5, size), rng.integers(0, 5, size)
        truth[0] = 255
        overlap.update(predicted, truth)
        areas = IoUMetric.intersect_and_union(
            torch.from_numpy(predicted), torch.from_numpy(truth), 5, 255
        )
        sums.append(torch.stack([area.cpu() for area in areas]))
    hits, union = sum(sums)[:2]
    assert overlap.compute()['IoU'] == pytest.approx((hits / union).tolist())


def test_nothing_to_count():
    overlap = MapOverlap(2)
    overlap.update(np.full((2, 2), 1), np.full((2, 2), 255))
    assert overlap.compute() == {'mIoU': None, 'accuracy': None, 'share': None, 'IoU': [None, None]}
    overlap.update(np.full((2, 2), 255), np.full((2, 2), 1))
    assert overlap.compute()['share'] == 0
