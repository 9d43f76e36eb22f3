"""DeepLabV3+ and its backbones: sizes of the paper's networks, strides, and the feature before the classifier."""

import pytest
import torch

from castkd.architectures import BACKBONES, deeplabv3plus
from castkd.errors import ConfigError
from castkd.registry import build_model


def tiny(backbone, **options):
    torch.manual_seed(0)
    return build_model(deeplabv3plus(3, backbone, width=0.25, channels=16, **options)).eval()


@pytest.mark.parametrize(
    ('backbone', 'millions'),
    [('resnet18', 11.20), ('wide_resnet50', 66.83), ('mobilenet_v2', 1.81)],
)
def test_backbones_have_the_sizes_of_the_paper(backbone, millions):
    with torch.device('meta'):
        network = build_model(deeplabv3plus(21, backbone)).backbone
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize('backbone', BACKBONES)
def test_odd_images_run_through(backbone):
    network = tiny(backbone)
    seen = []
    network.decode_head.conv_seg.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        features = network.extract_feat(torch.rand(1, 3, 97, 65))
        logits = network.decode_head(features)
    stride = 32 if backbone == 'mobilenet_v2' else 16
    assert features[-1].shape[-2:] == (-(-97 // stride), -(-65 // stride))
    assert logits.shape == (1, 3, 25, 17)
    assert seen[0].shape == (1, 16, 25, 17)


def test_dilations_of_the_last_stage():
    network = tiny('wide_resnet50').backbone
    assert [block.conv2.dilation for block in network.layer4] == [(2, 2), (4, 4), (8, 8)]
    assert network.layer1[0].conv2.weight.shape[0] == network.layer1[0].conv3.weight.shape[0] // 2


def test_windows_overlap_by_a_third():
    assert deeplabv3plus(2)['test_cfg'] == {'mode': 'whole'}
    windows = deeplabv3plus(2, window=(512, 800))['test_cfg']
    assert windows == {'mode': 'slide', 'crop_size': (512, 800), 'stride': (342, 534)}


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        (dict(backbone='resnet19'), r"backbone must be one of .* did you mean 'resnet18'"),
        (dict(width=0), 'width must be a number in'),
    ],
)
def test_wrong_options_are_named(options, text):
    with pytest.raises(ConfigError, match=text):
        deeplabv3plus(2, **options)
