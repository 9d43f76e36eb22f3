"""The dense-prediction-transformer pixel decoder: sizes, gradients, arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from castkd.errors import ConfigError
from castkd.heads import DPTPixelDecoder

WIDTHS = (4, 6, 8, 10)


def maps_of(sizes, batch=1):
    return [torch.randn(batch, width, *size) for width, size in zip(WIDTHS, sizes, strict=True)]


@pytest.mark.parametrize(
    ('sizes', 'expected', 'mask_size'),
    [
        (
            [(148, 296), (74, 148), (37, 74), (19, 37)],
            [(37, 74), (74, 148), (148, 296)],
            (296, 592),
        ),
        ([(180, 180), (90, 90), (45, 45), (23, 23)], [(45, 45), (90, 90), (180, 180)], (360, 360)),
    ],
)
def test_sizes(sizes, expected, mask_size):
    """T23."""
    with torch.device('meta'):
        decoder = DPTPixelDecoder(WIDTHS, 8, 8)
        mask_features, scales = decoder(maps_of(sizes))
    assert tuple(mask_features.shape) == (1, 8, *mask_size)
    assert [tuple(value.shape) for value in scales] == [(1, 8, *size) for size in expected]


def test_one_fusion_by_hand():
    """A decoder whose convolutions are identities: relu, add, resize."""
    decoder = DPTPixelDecoder((1, 1, 1, 1), 1, 1, norm='BN').eval()
    with torch.no_grad():
        for module in decoder.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                centre = module.kernel_size[0] // 2
                module.weight[..., centre, centre] = 1.0
                if module.bias is not None:
                    module.bias.zero_()
        # Batch norms with running mean 0 and variance 1 - eps pass values as they are.
        for module in decoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.fill_(1.0 - module.eps)
        maps = [torch.randn(1, 1, side, side) for side in (8, 4, 2, 1)]
        mask_features, scales = decoder(maps)

    def unit(value):
        return value + value.relu()

    def resized(value, side):
        return F.interpolate(value, size=(side, side), mode='bilinear', align_corners=True)

    path = resized(unit(maps[3]), 2)
    torch.testing.assert_close(scales[0], path)
    for level, side in ((2, 4), (1, 8), (0, 16)):
        path = resized(unit(path + unit(maps[level])), side)
        found = mask_features if level == 0 else scales[3 - level]
        torch.testing.assert_close(found, path)


@pytest.mark.parametrize('norm', ['GN', 'BN', 'SyncBN'])
def test_every_weight_gets_a_gradient(norm):
    """The coarsest fusion has no first unit, which would be idle."""
    decoder = DPTPixelDecoder(WIDTHS, 8, 8, norm=norm)
    mask_features, _ = decoder(maps_of([(16, 16), (8, 8), (4, 4), (2, 2)], batch=2))
    mask_features.square().mean().backward()
    assert all(value.grad is not None for value in decoder.parameters())
    kinds = {type(module) for module in decoder.modules()}
    assert {'GN': nn.GroupNorm, 'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}[norm] in kinds


def test_weights_are_drawn_anew():
    decoder = DPTPixelDecoder(WIDTHS, 8, 8)
    before = [value.clone() for value in decoder.parameters() if value.dim() > 1]
    decoder.init_weights()
    after = [value for value in decoder.parameters() if value.dim() > 1]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(in_channels=(1, 2)), 'number of in_channels'),
        (dict(norm='LN'), 'norm must be one of'),
        (dict(out_channels=16), 'must be the same, got 16 and 8'),
        (
            dict(encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=4)))),
            'num_levels must be one of',
        ),
    ],
)
def test_wrong_options_are_one_line(options, message):
    given = {**dict(in_channels=WIDTHS, feat_channels=8, out_channels=8), **options}
    with pytest.raises(ConfigError, match=message):
        DPTPixelDecoder(**given)
