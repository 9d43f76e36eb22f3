"""The pixel decoder of dense prediction transformers, as mmdet's Mask2Former head takes one.

Ranftl et al., "Vision Transformers for Dense Prediction", ICCV 2021; as in the student of CAST (arXiv 2505.21904).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_choice
from castkd.errors import ConfigError
from castkd.registry import MODELS

_NORMS = {
    'GN': lambda channels: nn.GroupNorm(math.gcd(32, channels), channels),
    'BN': nn.BatchNorm2d,
    'SyncBN': nn.SyncBatchNorm,
}


@MODELS.register_module()
class DPTPixelDecoder(nn.Module):
    """Fuse four maps from coarse to fine by residual convolutions.

    Per map a 3 x 3 and a 1 x 1 convolution bring the width to ``feat_channels``. A fusion adds the next finer map,
    passed through a residual unit, to what comes from below, and passes the sum through another one, a bilinear resize
    (aligned corners) to the size of the map after it, and a 1 x 1 convolution. The coarsest fusion has nothing to add
    and only the second unit: the published code keeps the first one, which never gets a gradient.

    Args:
        in_channels: Width of the four maps, fine to coarse.
        feat_channels: Width of all that is returned.
        out_channels: The same; mmdet's head gives it too.
        norm: Norm of the residual units: ``GN`` (groups of 32, or what divides the width), ``BN``, as published, or
            ``SyncBN``. With an image or two per process, batch statistics are poor.
        encoder: mmdet's head reads ``layer_cfg.self_attn_cfg.num_levels``, the number of maps its decoder attends to,
            from here; it must be 3. The decoder itself has no encoder.

    Shape:
        - Input: four maps (B, in_channels[i], h, w), fine to coarse.
        - Output: mask features (B, feat_channels, 2 h, 2 w) of the finest map's h and w, and a list of three maps
          (B, feat_channels, ...) of the sizes of the third, second and first input.

    Raises:
        ConfigError: When an option is wrong.

    Example:
        >>> import torch
        >>> decoder = DPTPixelDecoder([4, 8, 8, 16], feat_channels=8, out_channels=8)
        >>> maps = [
        ...     torch.rand(1, 4, 16, 24),
        ...     torch.rand(1, 8, 8, 12),
        ...     torch.rand(1, 8, 4, 6),
        ...     torch.rand(1, 16, 2, 3),
        ... ]
        >>> mask_features, scales = decoder(maps)
        >>> mask_features.shape, [tuple(scale.shape[-2:]) for scale in scales]
        (torch.Size([1, 8, 32, 48]), [(4, 6), (8, 12), (16, 24)])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        feat_channels: int,
        out_channels: int,
        norm: str = 'GN',
        encoder: Mapping | None = None,
    ) -> None:
        super().__init__()
        check_choice('DPTPixelDecoder', 'number of in_channels', len(in_channels), (4,))
        check_choice('DPTPixelDecoder', 'norm', norm, _NORMS)
        if encoder is not None:
            levels = encoder['layer_cfg']['self_attn_cfg']['num_levels']
            check_choice('DPTPixelDecoder', 'num_levels', levels, (3,))
        if out_channels != feat_channels:
            raise ConfigError(
                f'DPTPixelDecoder: out_channels and feat_channels must be the same, got {out_channels} and '
                f'{feat_channels}'
            )
        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, feat_channels, 3, padding=1, bias=False),
                nn.Conv2d(feat_channels, feat_channels, 1),
            )
            for width in in_channels
        )
        # Fine to coarse, like the maps.
        self.fusions = nn.ModuleList(
            _Fusion(feat_channels, norm, adds=level < 3) for level in range(4)
        )

    def init_weights(self) -> None:
        """Draw all weights anew as torch's layers do; mmdet's head calls this."""
        for module in self.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return mask features and three maps, coarse to fine."""
        laterals = [part(value) for part, value in zip(self.laterals, maps, strict=True)]
        sizes = [value.shape[-2:] for value in laterals]
        sizes.insert(0, [2 * side for side in sizes[0]])
        paths: list[Tensor] = []
        for level in (3, 2, 1, 0):
            below = paths[-1] if paths else None
            paths.append(self.fusions[level](laterals[level], below, sizes[level]))
        return paths[-1], paths[:-1]


class _Fusion(nn.Module):
    def __init__(self, channels: int, norm: str, *, adds: bool) -> None:
        super().__init__()
        self.skip = _residual(channels, norm) if adds else None
        self.unit = _residual(channels, norm)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, lateral: Tensor, below: Tensor | None, size: Sequence[int]) -> Tensor:
        if self.skip is not None:
            lateral = below + lateral + self.skip(lateral)
        fused = lateral + self.unit(lateral)
        return self.project(
            F.interpolate(fused, size=tuple(size), mode='bilinear', align_corners=True)
        )


def _residual(channels: int, norm: str) -> nn.Sequential:
    """Return the two convolutions of a residual unit, each behind a ReLU and before a norm."""
    layers = []
    for _ in range(2):
        convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        layers += [nn.ReLU(), convolution, _NORMS[norm](channels)]
    return nn.Sequential(*layers)
