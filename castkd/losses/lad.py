"""Dual-path consistency: two differently noised runs of one network shall agree.

Qiu et al., "Make a Strong Teacher with Label Assistance: A Novel Knowledge Distillation Approach for Semantic
Segmentation", ECCV 2024 (arXiv 2407.13254).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from castkd.losses.maps import paired
from castkd.losses.soft_targets import ChannelWiseDistillation, channel_wise_distillation
from castkd.registry import MODELS, build_model


def dual_path_consistency(
    path1_logits: Tensor,
    path2_logits: Tensor,
    *,
    distance: Callable[[Tensor, Tensor], Tensor] = channel_wise_distillation,
) -> Tensor:
    r"""Pull two paths towards each other.

    .. math:: L = d(o_1, sg(o_2)) + d(o_2, sg(o_1))

    with the stop-gradient :math:`sg` and the distance d. Either path is a fixed target for the other one: the gradient
    with respect to :math:`o_1` is that of :math:`d(o_1, sg(o_2))` alone.

    Args:
        path1_logits: o_1 (B, C, h, w).
        path2_logits: o_2 (B, C, h, w).
        distance: Loss of a map and a target that gets no gradient; channel-wise distillation at temperature 4.

    Returns:
        The loss, a scalar of at least 0; the same when the paths are exchanged, 0 when they are equal.

    Raises:
        ConfigError: When a shape is wrong.

    Example:
        >>> import torch
        >>> first = torch.zeros(1, 1, 1, 2, requires_grad=True)
        >>> second = torch.tensor([0.0, 3.0]).log1p().view(1, 1, 1, 2)
        >>> loss = dual_path_consistency(first, second)
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.4757
    """
    names = ('path1_logits', 'path2_logits')
    paired('DualPathConsistency', path1_logits, path2_logits, names=names)
    return distance(path1_logits, path2_logits) + distance(path2_logits, path1_logits)


@MODELS.register_module()
class DualPathConsistency(nn.Module):
    """Module form of :func:`dual_path_consistency`, which describes the formula.

    Args:
        tau: Temperature of the channel-wise distillation, above 0.
        distance: Config of another loss of two maps that takes its second one as fixed, such as
            ``castkd.LogitDistillation`` or ``castkd.CorrelationDistillation``; it has options of its own instead of
            ``tau``.

    Raises:
        ConfigError: When the temperature is not positive.
    """

    def __init__(self, tau: float = 4.0, distance: dict | nn.Module | None = None) -> None:
        """Build the distance."""
        super().__init__()
        self.distance = ChannelWiseDistillation(tau) if distance is None else build_model(distance)

    def forward(self, path1_logits: Tensor, path2_logits: Tensor) -> Tensor:
        """Return the loss of two maps (B, C, h, w)."""
        return dual_path_consistency(path1_logits, path2_logits, distance=self.distance)

    def __repr__(self) -> str:
        """Show the distance."""
        return f'{type(self).__name__}({self.distance!r})'
