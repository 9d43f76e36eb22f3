import pytest
import torch

from castkd.connectors import ConvConnector
from castkd.errors import ConfigError
from castkd.registry import MODELS


def test_maps_every_pixel_alone_and_adds_nothing():
    connector = ConvConnector(4, 6)
    feature = torch.randn(2, 4, 3, 5)
    expected = torch.einsum('oc,bchw->bohw', connector.conv.weight[:, :, 0, 0], feature)
    torch.testing.assert_close(connector(feature), expected)
    assert sum(parameter.numel() for parameter in connector.parameters()) == 4 * 6


@pytest.mark.parametrize('kernel_size', [1, 3, 5])
@pytest.mark.parametrize('size', [(7, 9), (1, 2)])
def test_keeps_the_size_of_the_map(kernel_size, size):
    connector = ConvConnector(4, 6, kernel_size, bias=True)
    assert connector(torch.randn(2, 4, *size)).shape == (2, 6, *size)
    assert connector.conv.bias.shape == (6,)


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_may_start_as_identity_and_is_trained(kernel_size):
    connector = ConvConnector(4, 4, kernel_size, bias=True, identity=True)
    feature = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(connector(feature), feature)
    connector(feature).square().sum().backward()
    assert connector.conv.weight.grad.all()
    assert connector.conv.bias.grad.any()


def test_identity_needs_equal_channels():
    with pytest.raises(ConfigError, match=r'identity=True needs as many .* got 4 and 6; remove it'):
        ConvConnector(4, 6, identity=True)


def test_builds_from_a_config_and_runs_under_autocast(device):
    config = {'type': 'castkd.ConvConnector', 'in_channels': 4, 'out_channels': 3}
    connector = MODELS.build(config).to(device)
    with torch.autocast(device.type, torch.bfloat16):
        connector(torch.randn(1, 4, 2, 2, device=device)).float().sum().backward()
    assert connector.conv.weight.grad.isfinite().all()


@pytest.mark.parametrize('shape', [(2, 5, 3, 3), (4, 3, 3)])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ConfigError, match=r'feature must be \(B, 4, h, w\), got .*tap'):
        ConvConnector(4, 6)(torch.randn(shape))


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ((0, 3), 'in_channels must be an integer'),
        ((3, 2.5), 'out_channels must be an integer'),
        ((3, 3, 2), 'kernel_size must be odd'),
    ],
)
def test_wrong_option_is_named(options, text):
    with pytest.raises(ConfigError, match=f'ConvConnector: {text}'):
        ConvConnector(*options)
