import pytest
import torch

from castkd.errors import ConfigError
from castkd.heads import ProjectionHead
from castkd.registry import MODELS


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_weights_of_the_default_layout():
    head = ProjectionHead(768, hidden_channels=256, out_channels=128)
    assert count(head) == 230_912
    assert count(ProjectionHead(768, norm=False)) == 230_912 - 2 * 768
    assert not [
        name for name, _ in head.named_parameters() if name.endswith('bias') and '0.' not in name
    ]


def test_projects_every_pixel_alone():
    head = ProjectionHead(6, 5, 4)
    feature = torch.randn(2, 6, 3, 7)
    whole = head(feature)
    assert whole.shape == (2, 4, 3, 7)
    torch.testing.assert_close(head(feature[1:, :, 2:, 4:5]), whole[1:, :, 2:, 4:5])


def test_computes_norm_linear_relu_linear():
    head = ProjectionHead(6, 5, 4).double()
    pixel = torch.randn(6, dtype=torch.float64)
    norm, first, _, second = head.layers
    centred = (pixel - pixel.mean()) / (pixel.var(unbiased=False) + norm.eps).sqrt()
    expected = second.weight @ (first.weight @ centred).clamp(min=0)
    torch.testing.assert_close(head(pixel.view(1, 6, 1, 1)).flatten(), expected)


def test_norm_makes_scale_irrelevant():
    feature = torch.randn(1, 64, 2, 2)
    plain, normed = ProjectionHead(64, norm=False), ProjectionHead(64)
    torch.testing.assert_close(normed(1000 * feature), normed(feature), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(plain(10 * feature), 10 * plain(feature))


def test_builds_from_a_config_and_runs_under_autocast(device):
    head = MODELS.build({'type': 'castkd.ProjectionHead', 'in_channels': 8, 'out_channels': 3}).to(
        device
    )
    with torch.autocast(device.type, torch.bfloat16):
        head(torch.randn(1, 8, 2, 2, device=device)).float().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize('shape', [(2, 5, 3, 3), (6, 3, 3), (2, 6)])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ConfigError, match=r'feature must be \(B, 6, h, w\), got .*tap'):
        ProjectionHead(6)(torch.randn(shape))


@pytest.mark.parametrize('name', ['in_channels', 'hidden_channels', 'out_channels'])
def test_wrong_width_is_named(name):
    with pytest.raises(ConfigError, match=f'ProjectionHead: {name} must be an integer'):
        ProjectionHead(**{'in_channels': 4, name: 0})
