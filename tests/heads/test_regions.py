"""Pooling of boxes from the right level, and the answers of RoI heads about them."""

import pytest
import torch

from castkd.errors import ConfigError
from castkd.heads import (
    RegionHeads,
    of_class,
    pool_regions,
    pooled_levels,
    region_extractor,
    rois_of,
)
from castkd.registry import build_model
from tests.detectors import tiny_detector


def square(side):
    return torch.tensor([[0.0, 0.0, 0.0, side, side]])


@pytest.mark.parametrize(
    ('side', 'level'),
    [(20, 0), (223, 0), (225, 1), (447, 1), (449, 2), (895, 2), (897, 3), (4000, 4)],
)
def test_level_of_a_box(side, level):
    """P3 holds boxes of up to 224 pixels."""
    extractor = region_extractor(4, [8, 16, 32, 64, 128])
    assert extractor.map_roi_levels(square(side), 5).item() == level
    # A pyramid that starts with P2 has one more level before.
    extractor = region_extractor(4, [4, 8, 16, 32])
    expected = min(level + 1, 3) if side > 112 else 0
    assert extractor.map_roi_levels(square(side), 4).item() == expected


def test_cells_are_aligned_with_pixels():
    columns = torch.arange(64.0).expand(1, 1, 64, 64)
    maps = [columns, *(columns[..., ::step, ::step] for step in (2, 4, 8, 16))]
    pooled = pool_regions(maps, torch.tensor([[0, 80.0, 80.0, 240.0, 240.0]]), [8, 16, 32, 64, 128])
    assert pooled.shape == (1, 1, 10, 10)
    # The box covers the cells 10 to 30, whose centres are half a cell further.
    expected = 10.5 + 2 * torch.arange(10.0)
    torch.testing.assert_close(pooled[0, 0], expected.expand(10, 10))


def test_pooled_in_float32_whatever_the_maps_are():
    maps = [torch.rand(2, 3, size, size) for size in (16, 8, 4)]
    rois = rois_of([torch.tensor([[3.3, 5.7, 90.1, 70.9]]), torch.tensor([[1.0, 2.0, 30.0, 40.0]])])
    expected = pool_regions([level.half().float() for level in maps], rois, [8, 16, 32])
    pooled = pool_regions([level.half() for level in maps], rois, [8, 16, 32])
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled, expected)


def test_boxes_smaller_than_a_cell_and_no_box_at_all():
    maps = [torch.rand(1, 3, size, size, requires_grad=True) for size in (4, 2)]
    pooled = pool_regions(maps, torch.tensor([[0, 5.0, 5.0, 6.0, 6.0]]), [8, 16])
    assert pooled.isfinite().all()
    empty = pool_regions(maps, torch.zeros(0, 5), [8, 16])
    assert empty.shape == (0, 3, 10, 10)
    empty.sum().backward()
    assert all(level.grad is not None and not level.grad.any() for level in maps)


def test_boxes_know_their_image():
    boxes = [torch.ones(2, 4), torch.zeros(0, 4), torch.full((1, 4), 3.0)]
    assert rois_of(boxes)[:, 0].tolist() == [0, 0, 2]
    assert rois_of(boxes)[:, 1:].tolist() == [[1] * 4, [1] * 4, [3] * 4]
    assert rois_of([torch.zeros(0, 4)]).shape == (0, 5)


def test_boxes_are_enlarged_for_a_network_of_larger_images():
    torch.manual_seed(0)
    model = build_model(tiny_detector('mask_rcnn')).eval()
    plain, scaled = (RegionHeads(model, 'teacher', scale) for scale in (1.0, 2.0))
    small = torch.tensor([[1.5, 2.5, 20.0, 25.0], [5.0, 4.0, 15.0, 15.0]])
    with torch.no_grad():
        maps = model.extract_feat(torch.randn(2, 3, 64, 64))
        # Of the second image: only coordinates are enlarged.
        rois = rois_of([small[:0], small]), rois_of([small[:0], 2 * small])
        for ask in ('boxes', 'masks'):
            found = getattr(scaled, ask)(maps, rois[0])
            torch.testing.assert_close(found, getattr(plain, ask)(maps, rois[1]))


@pytest.mark.parametrize('name', ['faster_rcnn', 'mask_rcnn'])
def test_answers_are_those_of_the_detector(name):
    torch.manual_seed(0)
    model = build_model(tiny_detector(name)).eval()
    heads = RegionHeads(model, 'student')
    rois = rois_of([torch.tensor([[3.0, 5.0, 40.0, 50.0], [10.0, 8.0, 30.0, 30.0]])])
    with torch.no_grad():
        maps = model.extract_feat(torch.randn(1, 3, 64, 64))
        logits, deltas = heads.boxes(maps, rois)
        expected = model.roi_head._bbox_forward(maps, rois)
        assert torch.equal(logits, expected['cls_score'])
        assert torch.equal(deltas.flatten(1), expected['bbox_pred'])
        assert deltas.shape == (2, 2, 4)
        assert heads.has_masks == (name == 'mask_rcnn')
        if heads.has_masks:
            masks = heads.masks(maps, rois)
            assert masks.shape == (2, 2, 28, 28)
            assert torch.equal(masks, model.roi_head._mask_forward(maps, rois)['mask_preds'])
    assert pooled_levels(model) == 4
    assert heads.delta_beta == 0


def test_distance_of_encoded_boxes_is_the_heads_own():
    config = tiny_detector('faster_rcnn')
    config['roi_head']['bbox_head']['loss_bbox'] = dict(type='SmoothL1Loss', beta=0.5)
    assert RegionHeads(build_model(config), 'student').delta_beta == 0.5


def test_entry_of_the_class():
    values = torch.arange(12.0).reshape(3, 2, 2)
    assert of_class(values, torch.tensor([1, 0, 1])).tolist() == [[2, 3], [4, 5], [10, 11]]
    assert of_class(values[:, :1], torch.tensor([1, 0, 1])).tolist() == [[0, 1], [4, 5], [8, 9]]


def test_geometry_names_what_must_be_shared():
    first, second = (
        RegionHeads(build_model(tiny_detector('mask_rcnn', num_classes=count)), 's').geometry()
        for count in (2, 3)
    )
    assert [name for name in first if first[name] != second[name]] == ['number of classes']
    assert first['mask head']
    assert first['size of the masks'] == (14, 14)


def test_other_heads_are_refused():
    model = build_model(tiny_detector('faster_rcnn'))
    model.roi_head.__class__ = type('CascadeRoIHead', (type(model.roi_head),), {})
    with pytest.raises(
        ConfigError,
        match=r'the student: its RoI head CascadeRoIHead .* regions=False and mask_weight=0',
    ):
        RegionHeads(model, 'the student')


def test_a_cascade_pools_from_as_many_levels():
    """Its stages have an extractor each."""
    model = build_model(tiny_detector('faster_rcnn'))
    extractor = model.roi_head.bbox_roi_extractor
    model.roi_head.bbox_roi_extractor = torch.nn.ModuleList([extractor, extractor])
    assert pooled_levels(model) == 4


@pytest.mark.parametrize('kind', ['DynamicRoIHead', 'PISARoIHead'])
def test_roi_heads_that_only_train_otherwise_answer_alike(kind):
    config = tiny_detector('faster_rcnn')
    smooth = dict(type='SmoothL1Loss', beta=0.5, loss_weight=1.0)
    config['roi_head']['bbox_head']['loss_bbox'] = smooth
    plain = build_model(config).eval()
    other = build_model({**config, 'roi_head': {**config['roi_head'], 'type': kind}}).eval()
    other.load_state_dict(plain.state_dict())
    rois = rois_of([torch.tensor([[3.0, 5.0, 40.0, 50.0], [10.0, 8.0, 30.0, 30.0]])])
    with torch.no_grad():
        maps = plain.extract_feat(torch.randn(1, 3, 64, 64))
        heads = [RegionHeads(network, 'student') for network in (plain, other)]
        answers = [head.boxes(maps, rois) for head in heads]
    assert [head.delta_beta for head in heads] == [0.5, 0.5]
    for one, another in zip(*answers, strict=True):
        assert torch.equal(one, another)
