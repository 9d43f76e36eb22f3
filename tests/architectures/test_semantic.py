"""The builders of segmentors give networks of stride 8 that mmseg builds."""

import pytest
import torch

from castkd.architectures import (
    HEADS,
    label_assisted,
    resnet_segmentor,
    stdc,
)
from castkd.errors import ConfigError
from castkd.registry import build_model
from tests.builders import make_map_sample


@pytest.mark.parametrize(
    ('head', 'depth', 'auxiliary'),
    [('fcn', 18, True), ('deeplabv3', 18, False), ('fcn', 50, False), ('pspnet', 18, True)],
)
def test_logits_have_stride_8(head, depth, auxiliary):
    sizes = dict(depth=depth, base_channels=8, channels=16)
    config = resnet_segmentor(11, head, auxiliary=auxiliary, **sizes)
    network = build_model(config).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 65, 96)).shape == (1, 11, 9, 12)
    assert network.with_auxiliary_head == auxiliary
    weights = [network.decode_head.loss_decode.loss_weight]
    weights += [network.auxiliary_head.loss_decode.loss_weight] if auxiliary else []
    assert weights == [1.0, 0.4][: len(weights)]


def test_class_weights_are_those_of_all_heads():
    config = resnet_segmentor(3, base_channels=8, channels=16, class_weight=(1, 2, 4))
    network = build_model(config)
    weights = [network.decode_head, network.auxiliary_head]
    assert [head.loss_decode.class_weight for head in weights] == [[1, 2, 4]] * 2


def test_full_size_of_a_resnet_18():
    """The usual backbone: 11.18 M parameters."""
    network = build_model(resnet_segmentor(19, auxiliary=False))
    count = sum(parameter.numel() for parameter in network.backbone.parameters())
    assert count == 11_176_512


@pytest.mark.parametrize(('option', 'value'), [('depth', 20), ('head', 'fcm')])
def test_what_does_not_exist_is_refused(option, value):
    with pytest.raises(ConfigError, match=f'resnet_segmentor: {option} must be one of'):
        resnet_segmentor(19, **{option: value})


def test_cascade_of_ocrnet():
    network = build_model(resnet_segmentor(11, 'ocrnet', base_channels=8, channels=16)).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 65, 96)).shape == (1, 11, 9, 12)
    heads = network.decode_head
    assert [head.loss_decode.loss_weight for head in heads] == [0.4, 1.0]
    assert not network.with_auxiliary_head


def test_stdc_learns_from_classes_and_borders():
    network = build_model(stdc(11, base_channels=8, channels=16))
    labels = torch.randint(11, (2, 64, 96))
    labels[:, :8] = 255
    samples = [make_map_sample(item) for item in labels]
    losses = network.loss(torch.randn(2, 3, 64, 96), samples)
    assert {name for name in losses if 'loss' in name} == {
        'decode.loss_ce',
        'aux_0.loss_ce',
        'aux_1.loss_ce',
        'aux_2.loss_ce',
        'aux_2.loss_dice',
    }
    assert all(value.isfinite() for value in losses.values())
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, 64, 96)).shape == (1, 11, 8, 12)


def test_full_size_of_stdc():
    """STDC1: 8.2 M parameters of the backbone with its context path and fusion."""
    backbone = build_model(stdc(19)).backbone
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert 7e6 < count < 9e6


@pytest.mark.parametrize('head', HEADS)
def test_deep_stem(head):
    config = resnet_segmentor(3, head, base_channels=8, channels=16, deep_stem=True)
    backbone = build_model(config).backbone
    convolutions = [item for item in backbone.stem if isinstance(item, torch.nn.Conv2d)]
    assert [item.kernel_size for item in convolutions] == [(3, 3)] * 3


def test_label_assisted_twin():
    network = resnet_segmentor(3, 'ocrnet', base_channels=8, channels=16)
    twin = label_assisted(network, mode='random', sigma=0.01)
    assert network['type'] == 'CascadeEncoderDecoder'
    model = build_model(twin)
    assert (model.test_noise.mode, model.test_noise.sigma) == ('random', 0.01)
    assert model.backbone.conv1.in_channels == 4
    with pytest.raises(ConfigError, match='type of network must be one of'):
        label_assisted(twin)
