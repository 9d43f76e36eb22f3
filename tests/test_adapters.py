"""How networks of each family run: depth of a pass, losses over some images of a batch."""

import pytest
import torch

from castkd.adapters import (
    GridMaskAdapter,
    QuerySegmentorAdapter,
    SingleStageAdapter,
    TwoStageAdapter,
    adapter_for,
)
from castkd.registry import build_model
from castkd.taps import record_taps
from tests.builders import make_sample, square_masks, tiny_mask2former, tiny_solov2
from tests.detectors import DETECTORS, tiny_detector

SAMPLES = [
    make_sample(square_masks(64, [(4, 4, 12), (30, 20, 28)]), [0, 1]),
    make_sample(square_masks(64, []), []),
    make_sample(square_masks(64, [(40, 8, 20)]), [1]),
]


def total(losses):
    return sum(value for name, value in losses.items() if 'loss' in name)


@pytest.fixture
def solo():
    torch.manual_seed(0)
    return build_model(tiny_solov2()).eval()


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.randn(3, 3, 64, 64)


def test_family_decides_the_adapter(solo):
    assert isinstance(adapter_for(solo), GridMaskAdapter)
    assert isinstance(adapter_for(build_model(tiny_mask2former())), QuerySegmentorAdapter)


def test_grid_loss_over_some_images_is_their_own_loss(solo, images):
    """With fixed batch norms, an image does not depend on its neighbours."""
    adapter = adapter_for(solo)
    partial = adapter.loss(solo, images, [sample.clone() for sample in SAMPLES], [0, 2])
    alone = solo.loss(images[[0, 2]], [SAMPLES[0].clone(), SAMPLES[2].clone()])
    assert partial.keys() == alone.keys()
    for name, value in alone.items():
        torch.testing.assert_close(partial[name], value)


def test_grid_taps_see_images_without_labels(solo, images):
    adapter = adapter_for(solo)
    with record_taps(solo, ('mask_head[2]', 'backbone[1]')) as taps:
        adapter.loss(solo, images, SAMPLES, [0])
    assert taps['mask_head[2]'].shape[0] == taps['backbone[1]'].shape[0] == 3


def test_grid_loss_over_no_image_is_a_connected_zero(solo, images):
    loss = total(adapter_for(solo).loss(solo, images, SAMPLES, []))
    assert loss == 0
    loss.backward()
    assert solo.backbone.conv1.weight.grad is not None


def test_grid_loss_without_any_object_is_finite(solo, images):
    loss = total(adapter_for(solo).loss(solo, images[1:2], SAMPLES[1:2], [0]))
    assert torch.isfinite(loss)
    assert loss > 0


def test_grid_forward_fires_hooks_of_the_head(solo, images):
    with record_taps(solo, ('mask_head[2]',)) as taps:
        kernels, scores, features = adapter_for(solo).forward(solo, images, SAMPLES)
    assert taps['mask_head[2]'] is features
    assert [tuple(score.shape) for score in scores] == [(3, 2, n, n) for n in (8, 6, 4, 2)]
    assert len(kernels) == 4


@pytest.mark.parametrize('name', DETECTORS)
def test_dense_run_of_a_detector_fires_hooks_and_runs_no_second_stage(name, images):
    torch.manual_seed(0)
    network = build_model(tiny_detector(name)).eval()
    two_stages = hasattr(network, 'rpn_head')
    adapter = adapter_for(network)
    assert isinstance(adapter, TwoStageAdapter if two_stages else SingleStageAdapter)
    head = 'rpn_head' if two_stages else 'bbox_head'
    with torch.no_grad(), record_taps(network, ('neck', head)) as taps:
        if two_stages:
            network.roi_head.bbox_head.register_forward_hook(lambda *_: pytest.fail('ran'))
        outputs = adapter.dense(network, images, [])
    assert taps[head] is outputs
    assert len(taps['neck']) == len(outputs[0]) == 5


def test_forward_run_of_a_single_stage_detector_fires_hooks_of_its_head(images):
    """mmdet's own calls the head's ``forward``, which no hook sees."""
    network = build_model(tiny_detector('retinanet')).eval()
    with torch.no_grad(), record_taps(network, ('bbox_head[0][1]',)) as taps:
        outputs = adapter_for(network).forward(network, images, SAMPLES)
        plain = network(images, SAMPLES, mode='tensor')
    assert taps['bbox_head[0][1]'] is outputs[0][1]
    torch.testing.assert_close(outputs, plain)


@pytest.mark.parametrize('name', DETECTORS)
def test_loss_run_of_a_detector_fires_hooks_once(name, images):
    network = build_model(tiny_detector(name)).train()
    head = 'rpn_head' if hasattr(network, 'rpn_head') else 'bbox_head'
    with record_taps(network, ('neck', head)) as taps:
        adapter_for(network).loss(network, images, [s.clone() for s in SAMPLES], [0, 1, 2])
    # A head that ran twice would give the list of both.
    assert isinstance(taps[head], tuple)
    assert taps[head][0][0].requires_grad


def test_predicted_masks_are_in_pixels_of_the_view(solo, images):
    """The left half of an image that was scaled down and padded is predicted as the file of that size would be."""
    solo.mask_head.test_cfg.update(score_thr=0.0, mask_thr=0.3)
    sample = make_sample(square_masks(64, []), [])
    sample.set_metainfo(dict(img_shape=(64, 40), ori_shape=(96, 60), batch_input_shape=(64, 64)))
    (found,) = adapter_for(solo).predict(solo, images[:1], [sample])
    assert len(found.pred_instances) > 0
    assert found.pred_instances.masks.shape[1:] == (64, 40)
    assert sample.ori_shape == (96, 60)
    sample.set_metainfo(dict(ori_shape=(64, 40)))
    (wanted,) = solo.predict(images[:1], [sample.clone()])
    assert torch.equal(found.pred_instances.masks, wanted.pred_instances.masks)
