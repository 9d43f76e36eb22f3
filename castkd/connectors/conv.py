"""One convolution from the student's channels to the teacher's."""

from __future__ import annotations

from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.registry import MODELS


@MODELS.register_module()
class ConvConnector(nn.Module):
    """A convolution that keeps the size of the map; 1x1 without bias unless told otherwise.

    Source: FitNets (arXiv 1412.6550) calls it the regressor; distillation for segmentation uses the 1x1 form.

    Shape:
        Input (B, in_channels, h, w), output (B, out_channels, h, w).

    Args:
        in_channels: Channels of the student's map, at least 1.
        out_channels: Channels of the teacher's map, at least 1.
        kernel_size: Side of the kernel, an odd number.
        bias: Whether the convolution adds a bias.
        identity: Whether the convolution starts as the identity (Dirac kernel, bias 0), so that the first step compares
            the student's own feature; needs as many output as input channels.

    Raises:
        ConfigError: When an option is out of its range, or an input has another shape.

    Example:
        >>> import torch
        >>> ConvConnector(16, 32)(torch.rand(2, 16, 5, 7)).shape
        torch.Size([2, 32, 5, 7])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        bias: bool = False,
        identity: bool = False,
    ) -> None:
        """Build the layer."""
        super().__init__()
        sizes = {
            'in_channels': in_channels,
            'out_channels': out_channels,
            'kernel_size': kernel_size,
        }
        for name, size in sizes.items():
            check_number('ConvConnector', name, size, low=1, integer=True)
        if kernel_size % 2 == 0:
            raise ConfigError(
                f'ConvConnector: kernel_size must be odd so that the map keeps its size, got {kernel_size}'
            )
        self.in_channels = in_channels
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias
        )
        if identity:
            self._start_as_identity()

    def _start_as_identity(self) -> None:
        if self.conv.in_channels != self.conv.out_channels:
            raise ConfigError(
                f'ConvConnector: identity=True needs as many output as input channels, got {self.conv.in_channels} and '
                f'{self.conv.out_channels}; remove it'
            )
        nn.init.dirac_(self.conv.weight)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """Map ``feature`` (B, in_channels, h, w) to (B, out_channels, h, w)."""
        if feature.dim() != 4 or feature.shape[1] != self.in_channels:
            raise ConfigError(
                f'ConvConnector: feature must be (B, {self.in_channels}, h, w), got '
                f'{tuple(feature.shape)}; check in_channels and the tap'
            )
        return self.conv(feature)
