"""Teachers of pixels are judged by mIoU; class maps are drawn."""

import math

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

from castkd.errors import ConfigError
from castkd.hooks.drawing import paint_classes
from castkd.hooks.labelled import LabelledImage, _truth, teacher_score
from tests.builders import make_map_sample


class Knowing:
    """Predicts a given map, in a larger padded input."""

    name = 'knowing'

    def __init__(self, labels):
        self.labels = labels

    def predict(self, inputs, samples):
        sample = samples[0].clone()
        if self.labels is not None:
            padded = torch.zeros(1, *inputs.shape[-2:], dtype=torch.long)
            height, width = self.labels.shape
            padded[0, :height, :width] = torch.from_numpy(self.labels)
            sample.pred_sem_seg = PixelData(data=padded)
        return [sample]


def image(truth):
    truth = np.asarray(truth, dtype=np.uint8)
    return LabelledImage(torch.zeros(1, 3, 4, 6), [make_map_sample(shape=truth.shape)], truth)


def test_score_leaves_out_padding_and_ignored_pixels():
    truth = [[0, 1, 254], [255, 1, 1]]
    assert teacher_score(Knowing(np.array(truth)), [image(truth)]) == ('mIoU', 1.0)
    name, score = teacher_score(Knowing(np.array([[0, 0, 254], [7, 1, 1]])), [image(truth)])
    assert name == 'mIoU'
    assert score == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)


def test_without_truth_there_is_no_score():
    assert math.isnan(teacher_score(Knowing(np.zeros((2, 2), int)), [image([[255, 255]] * 2)])[1])


def test_a_detector_has_no_score():
    with pytest.raises(ConfigError, match="teacher 'knowing' predicts no label maps"):
        teacher_score(Knowing(None), [image([[0, 1]])])


def test_truth_is_brought_to_the_input():
    labels = np.array([[0, 255], [1, 2]])
    sample = make_map_sample(labels.repeat(2, 0).repeat(2, 1))
    sample.set_metainfo(dict(img_shape=(2, 2)))
    assert _truth(sample).tolist() == labels.tolist()


def test_pixels_without_a_class_are_not_painted():
    pixels = np.full((1, 3, 3), 100, np.uint8)
    painted = paint_classes(pixels, np.array([[0, 1, 255]]), [(200, 0, 0), (0, 0, 50)])
    # Palettes are RGB, images BGR.
    assert painted.tolist() == [[[50, 50, 150], [75, 50, 50], [100, 100, 100]]]
