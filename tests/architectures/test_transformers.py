"""SegFormer and PVTv2 builders: published sizes, and the weighted loss."""

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from castkd.architectures import pvt_v2_fpn, segformer, stage_channels
from castkd.registry import build_model

B2 = dict(embed_dims=64, depths=(3, 4, 6, 3))


@pytest.mark.parametrize(
    ('build', 'options', 'classes', 'parameters'),
    [
        (segformer, {}, 19, 3_720_051),
        (segformer, dict(B2, channels=768), 20, 27_365_076),
        (pvt_v2_fpn, {}, 20, 7_527_668),
        (pvt_v2_fpn, B2, 20, 29_098_836),
    ],
)
def test_published_sizes(build, options, classes, parameters):
    network = build_model(build(classes, **options))
    assert sum(value.numel() for value in network.parameters()) == parameters


def test_widths_of_the_stages():
    assert stage_channels(32) == (32, 64, 160, 256)
    assert stage_channels(64) == (64, 128, 320, 512)


@pytest.mark.parametrize('build', [segformer, pvt_v2_fpn])
def test_class_weights_give_a_weighted_mean_over_pixels_with_a_class(build):
    torch.manual_seed(0)
    weights = (1.0, 5.0, 0.5)
    network = build_model(
        build(3, embed_dims=8, depths=(1, 1, 1, 1), channels=8, class_weight=weights)
    ).eval()
    labels = torch.randint(0, 3, (1, 1, 8, 8))
    labels[..., :3] = 255
    sample = SegDataSample(metainfo={'img_shape': (32, 32), 'ori_shape': (32, 32)})
    sample.gt_sem_seg = PixelData(data=labels[0])
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        logits = network(image, [sample], mode='tensor')
        loss = network.loss(image, [sample])['decode.loss_ce']
    expected = torch.nn.functional.cross_entropy(
        logits, labels[:, 0], torch.tensor(weights), ignore_index=255
    )
    torch.testing.assert_close(loss, expected)


def test_prediction_slides_at_three_quarters():
    assert segformer(2, slide=64)['test_cfg'] == {
        'mode': 'slide',
        'crop_size': (64, 64),
        'stride': (48, 48),
    }
    assert pvt_v2_fpn(2)['test_cfg'] == {'mode': 'whole'}
