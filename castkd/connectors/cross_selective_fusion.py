"""Fusion of a student's feature maps from deep to shallow, with attention over the two sources."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_choice, check_number
from castkd.connectors.pyramid import check_maps, check_widths
from castkd.errors import ConfigError
from castkd.registry import MODELS

BOTTLENECK_NORMS = ('switch', 'batch', 'none')


@MODELS.register_module()
class CrossSelectiveFusion(nn.Module):
    r"""CSF of TransKD: bring all stages of a student to the teacher's widths, each fused with what is deeper.

    From the deepest stage to the shallowest, with :math:`x_i` the stage's map reduced to ``mid_channels`` and
    :math:`y_i` the nearest-neighbour enlargement of the fused map :math:`v_{i+1}` (the deepest stage takes
    :math:`v = x`):

    .. math::
        v_i = a_x x_i + a_y y_i, \quad a_x + a_y = 1, \quad O_i = \mathrm{BN}(\mathrm{conv}_{3 \times 3}(v_i))

    The weights :math:`a` are one number per image and channel: a softmax over the two sources, from the global mean of
    :math:`x_i + y_i` through a bottleneck.

    Shape:
        Input: maps (B, student_channels[i], h_i, w_i), shallow to deep; output: list of
        (B, teacher_channels[i], h_i, w_i).

    Args:
        student_channels: Width of the student's map per stage, shallow to deep.
        teacher_channels: Width of the teacher's map per stage.
        mid_channels: Width of the fused maps, at least 1.
        bottleneck_channels: Width of the attention's bottleneck, at least 1.
        bottleneck_norm: ``batch`` normalises the bottleneck over the images of the batch. With few images that leaves
            little but signs (with two, exactly plus and minus one); ``none`` leaves it out. ``switch`` is the
            published code: ``batch``, and for a batch of one image a second bottleneck without.

    Raises:
        ConfigError: When an option or a shape is wrong.

    Example:
        >>> fusion = CrossSelectiveFusion((4, 8), (8, 16), mid_channels=6)
        >>> [tuple(o.shape) for o in fusion([torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4)])]
        [(2, 8, 8, 8), (2, 16, 4, 4)]

    Reference:
        TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation, arXiv 2202.13393.
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        mid_channels: int = 64,
        bottleneck_channels: int = 32,
        bottleneck_norm: str = 'switch',
    ) -> None:
        """Build the stages."""
        super().__init__()
        owner = 'CrossSelectiveFusion'
        check_widths(owner, student_channels, teacher_channels)
        check_number(owner, 'mid_channels', mid_channels, low=1, integer=True)
        check_number(owner, 'bottleneck_channels', bottleneck_channels, low=1, integer=True)
        check_choice(owner, 'bottleneck_norm', bottleneck_norm, BOTTLENECK_NORMS)
        self.student_channels = tuple(student_channels)
        self.reductions = nn.ModuleList(
            _conv_norm(width, mid_channels, kernel_size=1) for width in student_channels
        )
        self.selections = nn.ModuleList(
            SourceSelection(mid_channels, bottleneck_channels, bottleneck_norm)
            for _ in student_channels[1:]
        )
        self.expansions = nn.ModuleList(
            _conv_norm(mid_channels, width, kernel_size=3) for width in teacher_channels
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the fused maps in the teacher's widths, shallow to deep."""
        check_maps('CrossSelectiveFusion', features, self.student_channels)
        reduced = [reduce(map_) for reduce, map_ in zip(self.reductions, features, strict=True)]
        fused = reduced[-1:]
        for own, select in zip(reduced[-2::-1], reversed(self.selections), strict=True):
            deeper = F.interpolate(fused[0], size=own.shape[-2:], mode='nearest')
            fused.insert(0, select(own, deeper))
        return [expand(map_) for expand, map_ in zip(self.expansions, fused, strict=True)]


class SourceSelection(nn.Module):
    """Weighs two maps of the same shape against each other, per image and channel.

    Shape:
        Inputs (B, channels, h, w) twice, output (B, channels, h, w).

    Args:
        channels: Width of the maps.
        bottleneck_channels: Width of the bottleneck.
        bottleneck_norm: See :class:`CrossSelectiveFusion`.
    """

    def __init__(self, channels: int, bottleneck_channels: int, bottleneck_norm: str) -> None:
        """Build the bottlenecks and the two expansions."""
        super().__init__()
        self.batched = self.plain = None
        if bottleneck_norm in ('switch', 'batch'):
            self.batched = nn.Sequential(
                nn.Conv2d(channels, bottleneck_channels, 1, bias=False),
                nn.BatchNorm2d(bottleneck_channels),
                nn.ReLU(inplace=True),
            )
        if bottleneck_norm in ('switch', 'none'):
            self.plain = nn.Sequential(
                nn.Conv2d(channels, bottleneck_channels, 1, bias=False), nn.ReLU(inplace=True)
            )
        self.expand_own = nn.Conv2d(bottleneck_channels, channels, 1)
        self.expand_deeper = nn.Conv2d(bottleneck_channels, channels, 1)

    def forward(self, own: Tensor, deeper: Tensor) -> Tensor:
        """Return the weighted sum of both maps."""
        own_weight, deeper_weight = self.weights(own, deeper)
        return own_weight * own + deeper_weight * deeper

    def weights(self, own: Tensor, deeper: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of both maps, each (B, channels, 1, 1); they sum to one."""
        hidden = self._bottleneck((own + deeper).mean(dim=(2, 3), keepdim=True))
        scores = torch.stack([self.expand_own(hidden), self.expand_deeper(hidden)])
        return tuple(scores.softmax(dim=0))

    def _bottleneck(self, pooled: Tensor) -> Tensor:
        if self.batched is None:
            return self.plain(pooled)
        if self.plain is None:
            if self.training and len(pooled) == 1 and isinstance(self.batched[1], nn.BatchNorm2d):
                raise ConfigError(
                    "CrossSelectiveFusion: bottleneck_norm='batch' needs at least two images a batch, got one; "
                    "use 'none' or 'switch'"
                )
            return self.batched(pooled)
        used, idle = (self.plain, self.batched) if len(pooled) == 1 else (self.batched, self.plain)
        # Every parameter stays in the graph, as distributed training asks.
        return used(pooled) + 0.0 * sum(value.sum() for value in idle.parameters())


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))
