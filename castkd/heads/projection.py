"""Projection of dense features into the space of a contrastive loss."""

from __future__ import annotations

from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.registry import MODELS


@MODELS.register_module()
class ProjectionHead(nn.Module):
    """Pixel-wise projector: LayerNorm over channels, Linear, ReLU, Linear, without linear biases.

    The layout is the one of CAST's memory variant (arXiv 2505.21904); the LayerNorm keeps it safe
    under mixed precision.

    Shape:
        Input (B, in_channels, h, w), output (B, out_channels, h, w), not normalised.

    Args:
        in_channels: Channels of the feature map, at least 1.
        hidden_channels: Width between the two linear maps, at least 1.
        out_channels: Width of the embedding, at least 1.
        norm: Whether the LayerNorm comes first.

    Raises:
        ConfigError: When a width is not a positive integer, or an input has another shape.

    Example:
        >>> import torch
        >>> head = ProjectionHead(16, hidden_channels=8, out_channels=4)
        >>> head(torch.rand(2, 16, 5, 7)).shape
        torch.Size([2, 4, 5, 7])
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 256,
        out_channels: int = 128,
        norm: bool = True,
    ) -> None:
        """Build the layers."""
        super().__init__()
        widths = {
            'in_channels': in_channels,
            'hidden_channels': hidden_channels,
            'out_channels': out_channels,
        }
        for name, width in widths.items():
            check_number('ProjectionHead', name, width, low=1, integer=True)
        self.in_channels = in_channels
        self.layers = nn.Sequential(
            nn.LayerNorm(in_channels) if norm else nn.Identity(),
            nn.Linear(in_channels, hidden_channels, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, out_channels, bias=False),
        )

    def forward(self, feature: Tensor) -> Tensor:
        """Project every pixel of ``feature`` (B, in_channels, h, w) to (B, out_channels, h, w)."""
        if feature.dim() != 4 or feature.shape[1] != self.in_channels:
            raise ConfigError(
                f'ProjectionHead: feature must be (B, {self.in_channels}, h, w), got '
                f'{tuple(feature.shape)}; check in_channels and the tap'
            )
        return self.layers(feature.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
