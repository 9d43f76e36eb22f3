"""Queries read from the heads of segmentors."""

import pytest
import torch
import torch.nn.functional as F

from castkd.errors import ConfigError
from castkd.heads import BoxQueries, GridQueries, SetPredictionQueries
from castkd.registry import build_model
from castkd.taps import record_taps
from tests.builders import tiny_mask2former, tiny_solov2


def grid_taps(images=2, width=4, classes=1, sides=(3, 2), size=5):
    torch.manual_seed(0)
    taps = {'mask_head[2]': torch.randn(images, width, size, size)}
    for level, side in enumerate(sides):
        taps[f'mask_head[0][{level}]'] = torch.randn(images, width, side, side)
        taps[f'mask_head[1][{level}]'] = torch.randn(images, classes, side, side)
    return taps


def test_set_prediction_reads_the_last_layer():
    queries = SetPredictionQueries('head')
    taps = {'head[0][-1]': torch.rand(1, 3, 2), 'head[1][-1]': torch.rand(1, 3, 4, 4)}
    masks, classes = queries(taps)
    assert masks is taps['head[1][-1]']
    assert classes is taps['head[0][-1]']


def test_grid_queries_are_the_best_cells_best_first():
    taps = grid_taps()
    masks, classes = GridQueries(levels=2, num_queries=4)(taps)
    assert masks.shape == (2, 4, 5, 5)
    assert classes.shape == (2, 4, 2)
    scores = torch.cat([taps[f'mask_head[1][{level}]'].flatten(1) for level in (0, 1)], dim=1)
    torch.testing.assert_close(classes[..., 0], scores.sort(dim=1, descending=True).values[:, :4])
    best = scores[1].argmax()
    kernels = torch.cat([taps[f'mask_head[0][{level}]'][1].flatten(1) for level in (0, 1)], dim=1)
    expected = F.conv2d(taps['mask_head[2]'][1:], kernels[:, best].view(1, 4, 1, 1))
    torch.testing.assert_close(masks[1, 0], expected[0, 0])


def test_grid_class_distribution_is_the_cells_own_sigmoid():
    _, classes = GridQueries(levels=2, num_queries=3)(grid_taps())
    torch.testing.assert_close(classes.softmax(2)[..., 0], classes[..., 0].sigmoid())


def test_more_queries_than_cells_takes_all():
    masks, classes = GridQueries(levels=2, num_queries=100)(grid_taps(classes=3))
    assert masks.shape[1] == classes.shape[1] == 3 * 3 + 2 * 2
    assert classes.shape[2] == 4


def test_grid_queries_need_a_level():
    with pytest.raises(ConfigError, match='levels'):
        GridQueries(levels=0)


@pytest.mark.parametrize(
    ('config', 'queries'),
    [(tiny_mask2former(), SetPredictionQueries()), (tiny_solov2(), GridQueries(levels=4))],
)
def test_taps_exist_in_the_network(config, queries):
    network = build_model(config).eval()
    with record_taps(network, queries.taps) as taps, torch.no_grad():
        features = network.extract_feat(torch.rand(2, 3, 64, 64))
        if hasattr(network, 'mask_head'):
            network.mask_head(features)
        else:
            network.panoptic_head(features, [])
    masks, classes = queries(taps)
    assert masks.shape[:2] == classes.shape[:2]
    assert classes.shape[2] == 3


def test_box_queries_are_the_best_boxes_as_masks():
    """One box over the left half, one in the middle of the right half, on a grid of 4 x 8."""
    boxes = torch.tensor([[[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.25, 0.5], [0.5, 0.5, 0.1, 0.1]]])
    logits = torch.tensor([[[0.1, -1.0], [-2.0, 3.0], [-3.0, -4.0]]])
    queries = BoxQueries(num_queries=2, size=(4, 8))
    masks, classes = queries({'detector[0]': logits, 'detector[1]': boxes})
    assert masks.shape == (1, 2, 4, 8)
    assert classes.tolist() == [[[-2.0, 3.0, 0.0], [pytest.approx(0.1), -1.0, 0.0]]]
    inside = masks[0] > 0
    assert inside[0].nonzero().tolist() == [[row, column] for row in (1, 2) for column in (5, 6)]
    assert inside[1].nonzero().tolist() == [
        [row, column] for row in range(4) for column in range(4)
    ]
    # In the middle cell of the first box both axes are half a cell off its centre: 1/16 of 1/8, 1/8 of 1/4.
    assert masks[0, 0, 1, 5].item() == pytest.approx(4 * (1 - 0.5))
    assert masks[0, 0, 0, 0].item() == -4
    assert queries.taps == ('detector[0]', 'detector[1]')


@pytest.mark.parametrize('options', [dict(num_queries=0), dict(size=(0, 4))])
def test_box_queries_refuse_wrong_numbers(options):
    with pytest.raises(ConfigError, match='BoxQueries'):
        BoxQueries(**options)
