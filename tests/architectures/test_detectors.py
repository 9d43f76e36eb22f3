"""The builders of detectors: mmdet's own configs at full size, and small ones that train from random weights."""

import copy

import pytest
import torch
from mmengine.hub import get_config

from castkd.architectures import (
    atss,
    faster_rcnn,
    fcos,
    gfl,
    mask_rcnn,
    mobilenet_retinanet,
    retinanet,
)
from castkd.errors import ConfigError
from castkd.registry import build_model
from tests.builders import make_batch

PUBLISHED = {
    'retinanet/retinanet_r50_fpn_2x_coco': retinanet,
    'fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco': fcos,
    'atss/atss_r50_fpn_1x_coco': atss,
    'gfl/gfl_r50_fpn_1x_coco': gfl,
    'faster_rcnn/faster-rcnn_r50_fpn_2x_coco': faster_rcnn,
    'mask_rcnn/mask-rcnn_r50_fpn_2x_coco': mask_rcnn,
}
BUILDERS = [retinanet, fcos, atss, gfl, faster_rcnn, mask_rcnn]
TINY = dict(depth=18, base_channels=8, channels=16)
EXTRA = {faster_rcnn: dict(fc_channels=32), mask_rcnn: dict(fc_channels=32, mask_convs=1)}
# What builders write down although it is mmdet's default, or mmdet's config writes down although it is.
DEFAULTS = {
    '_scope_': 'mmdet',
    'base_channels': 64,
    'mask_pad_value': 0,
    'norm_cfg': {'type': 'GN', 'num_groups': 32, 'requires_grad': True},
}


def differences(ours, theirs, path=''):
    """Return the dotted keys in which two configs differ, but for defaults."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in {**ours, **theirs}:
            value = ours.get(key, DEFAULTS.get(key, '-'))
            other = theirs.get(key, DEFAULTS.get(key, '-'))
            found += differences(value, other, f'{path}.{key}')
        return found
    same = list(ours) == list(theirs) if isinstance(ours, list | tuple) else ours == theirs
    return [] if same else [path[1:]]


@pytest.mark.parametrize('name', PUBLISHED)
def test_full_size_is_the_config_of_mmdet(name):
    theirs = get_config(f'mmdet::{name}.py').model
    ours = PUBLISHED[name](80, pretrained='torchvision://resnet50')
    expected = set()
    if 'caffe' in name:
        expected = {'data_preprocessor.mean', 'data_preprocessor.std'}
        expected |= {'data_preprocessor.bgr_to_rgb', 'backbone.norm_cfg.requires_grad'}
        expected |= {'backbone.style', 'backbone.init_cfg.checkpoint'}
    assert set(differences(ours, theirs)) == expected


@pytest.mark.parametrize('build', BUILDERS)
def test_small_detector_trains_from_random_weights(build):
    network = build_model(build(2, **TINY, **EXTRA.get(build, {}))).train()
    network.init_weights()
    inputs, samples = make_batch(['sup'])
    losses = network.loss(inputs['sup'], samples['sup'])
    parts = [
        part
        for value in losses.values()
        for part in (value if isinstance(value, list) else [value])
    ]
    total = sum(part for part in parts if part.requires_grad)
    total.backward()
    assert total.isfinite()
    assert network.backbone.conv1.weight.grad.any()
    assert sum(value.numel() for value in network.parameters()) < 400_000


def test_levels_and_anchors_of_a_retinanet_for_small_objects():
    network = build_model(retinanet(1, **TINY, first_level=2, num_levels=4, anchor_size=2)).eval()
    with torch.no_grad():
        scores, _ = network.bbox_head(network.extract_feat(torch.randn(1, 3, 64, 64)))
    assert [tuple(score.shape[1:]) for score in scores] == [(9, n, n) for n in (16, 8, 4, 2)]
    anchors = network.bbox_head.prior_generator.base_anchors
    areas = (anchors[0][:, 2:] - anchors[0][:, :2]).prod(dim=1)
    assert areas.min().sqrt().item() == pytest.approx(8)


@pytest.mark.parametrize('build', BUILDERS)
def test_unknown_depth_is_refused(build):
    with pytest.raises(ConfigError, match=rf'({build.__name__}|faster_rcnn): depth must be one of'):
        build(2, depth=20)


def test_unknown_level_is_refused():
    with pytest.raises(ConfigError, match='retinanet: first_level must be one of'):
        retinanet(2, first_level=4)


@pytest.mark.parametrize('build', [fcos, atss, gfl, retinanet])
def test_a_change_to_one_config_does_not_reach_the_next(build):
    before = copy.deepcopy(build(2))
    changed = build(2)
    changed['bbox_head']['loss_cls']['type'] = 'Changed'
    changed['bbox_head']['loss_bbox']['type'] = 'Changed'
    if 'train_cfg' in changed:
        changed['train_cfg']['assigner']['type'] = 'Changed'
    assert build(2) == before


def test_mobilenet_gives_the_pyramid_of_a_resnet():
    model = build_model(mobilenet_retinanet(2, channels=16, stacked_convs=1)).train()
    inputs, samples = make_batch(['sup'], size=128)
    with torch.no_grad():
        sizes = [tuple(level.shape[1:]) for level in model.extract_feat(inputs['sup'])]
    assert sizes == [(16, side, side) for side in (16, 8, 4, 2, 1)]
    loss, _ = model.parse_losses(model.loss(inputs['sup'], samples['sup']))
    loss.backward()
    assert loss.isfinite()
    idle = {name for name, value in model.backbone.named_parameters() if value.grad is None}
    assert not idle
    pretrained = mobilenet_retinanet(80, pretrained='open-mmlab://mmdet/mobilenet_v2')
    assert pretrained['backbone']['norm_eval']
    assert pretrained['backbone']['init_cfg']['checkpoint'] == 'open-mmlab://mmdet/mobilenet_v2'


@pytest.mark.parametrize('build', [faster_rcnn, mask_rcnn])
def test_small_images_have_fewer_proposals(build):
    """In training as many again are looked at before suppression, as usual."""
    config = build(2, proposals=20, rois_per_image=8)
    tested, trained = config['test_cfg']['rpn'], config['train_cfg']['rpn_proposal']
    assert (tested['nms_pre'], tested['max_per_img']) == (20, 20)
    assert (trained['nms_pre'], trained['max_per_img']) == (40, 20)
    assert config['train_cfg']['rcnn']['sampler']['num'] == 8
