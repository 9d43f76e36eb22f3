"""Tokens that look far by attention and near by convolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.connectors.pyramid import check_tokens
from castkd.errors import ConfigError
from castkd.registry import MODELS


@MODELS.register_module()
class GlobalLocalMixer(nn.Module):
    r"""GL-Mixer of TransKD: a weighted sum of self-attention and of a gated convolution along the tokens.

    .. math::
        E' = w_g \, \mathrm{MHSA}(E) + w_l \, \mathrm{conv}_a(E) \odot \sigma(\mathrm{conv}_b(E))

    without a norm before the attention. Both convolutions have width 3 and run over the tokens in raster order.

    Shape:
        Input (B, N, channels), output (B, N, channels).

    Args:
        channels: Width of the tokens, a multiple of ``num_heads``.
        num_heads: Heads of the attention, at least 1.
        residual: Whether the input is added to the result.
        global_weight: First value of :math:`w_g`, which is trained. The published code starts both weights from
            uninitialised memory.
        local_weight: First value of :math:`w_l`, which is trained.

    Raises:
        ConfigError: When an option or a shape is wrong.

    Example:
        >>> GlobalLocalMixer(16, num_heads=4)(torch.rand(2, 10, 16)).shape
        torch.Size([2, 10, 16])

    Reference:
        TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation, arXiv 2202.13393.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 8,
        residual: bool = False,
        global_weight: float = 0.5,
        local_weight: float = 0.5,
    ) -> None:
        """Build both branches."""
        super().__init__()
        owner = 'GlobalLocalMixer'
        check_number(owner, 'channels', channels, low=1, integer=True)
        check_number(owner, 'num_heads', num_heads, low=1, integer=True)
        if channels % num_heads:
            raise ConfigError(
                f'{owner}: channels must be a multiple of num_heads, got {channels} and {num_heads}'
            )
        for name, value in (('global_weight', global_weight), ('local_weight', local_weight)):
            check_number(owner, name, value)
        self.channels = channels
        self.num_heads = num_heads
        self.residual = residual
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.output = nn.Linear(channels, channels)
        self.value = nn.Conv1d(channels, channels, 3, padding=1)
        self.gate = nn.Conv1d(channels, channels, 3, padding=1)
        self.global_weight = nn.Parameter(torch.tensor(float(global_weight)))
        self.local_weight = nn.Parameter(torch.tensor(float(local_weight)))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mixed tokens."""
        check_tokens('GlobalLocalMixer', [tokens], [self.channels])
        mixed = self.global_weight * self._attend(tokens) + self.local_weight * self._near(tokens)
        return mixed + tokens if self.residual else mixed

    def statistics(self) -> dict[str, Tensor]:
        """Return both weights by name, detached."""
        return {
            'global_weight': self.global_weight.detach(),
            'local_weight': self.local_weight.detach(),
        }

    def _attend(self, tokens: Tensor) -> Tensor:
        heads = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*heads.unbind())
        return self.output(attended.transpose(1, 2).flatten(2))

    def _near(self, tokens: Tensor) -> Tensor:
        line = tokens.transpose(1, 2)
        return (self.value(line) * self.gate(line).sigmoid()).transpose(1, 2)
