"""The builders of segmentors give networks of stride 8 that mmseg builds."""

import pytest
import torch

from castkd.architectures_semantic import deeplabv3, fcn
from castkd.errors import ConfigError
from castkd.registry import build_model


@pytest.mark.parametrize(
    ('builder', 'depth', 'auxiliary'),
    [(fcn, 18, True), (deeplabv3, 18, False), (fcn, 50, False)],
)
def test_logits_have_stride_8(builder, depth, auxiliary):
    config = builder(11, depth=depth, base_channels=8, channels=16, auxiliary=auxiliary)
    network = build_model(config).eval()
    with torch.no_grad():
        assert network(torch.randn(1, 3, 65, 96)).shape == (1, 11, 9, 12)
    assert network.with_auxiliary_head == auxiliary
    weights = [network.decode_head.loss_decode.loss_weight]
    weights += [network.auxiliary_head.loss_decode.loss_weight] if auxiliary else []
    assert weights == [1.0, 0.4][: len(weights)]


def test_full_size_of_a_resnet_18():
    """The usual backbone: 11.18 M parameters."""
    network = build_model(fcn(19, auxiliary=False))
    count = sum(parameter.numel() for parameter in network.backbone.parameters())
    assert count == 11_176_512


def test_an_unknown_depth_is_refused():
    with pytest.raises(ConfigError, match='fcn: depth must be one of'):
        fcn(19, depth=20)
