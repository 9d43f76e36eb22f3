"""Features compared pixel by pixel: as they are (FitNets), or as maps of attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from castkd.losses.maps import paired
from castkd.registry import MODELS


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare features element by element: mean (s - t)^2 (FitNets).

    Args:
        student: Features (B, C, h, w), behind a connector to the teacher's channels.
        teacher: Features (B, C, h, w); no gradient flows to them.

    Returns:
        The loss, a scalar of at least 0.

    Raises:
        ConfigError: When a shape is wrong.

    Reference:
        Romero et al., FitNets: Hints for Thin Deep Nets, arXiv 1412.6550.
    """
    return F.mse_loss(*paired('HintLoss', student, teacher))


def attention_map(feature: Tensor) -> Tensor:
    """Return the mean square over channels of (B, C, h, w), of length 1 over all positions: (B, h x w)."""
    return F.normalize(feature.square().mean(dim=1).flatten(1), dim=1)


def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compare where features are strong (AT).

    .. math::
        L = \frac{1}{B h w} \sum_{b,p} \big(A(s)_{bp} - A(t)_{bp}\big)^2, \quad
        A(f)_b = \frac{a_b}{\|a_b\|_2}, \quad a_{bp} = \frac{1}{C} \sum_c f_{bcp}^2

    Args:
        student: Features (B, C, h, w).
        teacher: Features (B, D, h, w), with any number of channels; no gradient flows to them.

    Returns:
        The loss, a scalar of at least 0; unchanged when a map is multiplied by a number.

    Raises:
        ConfigError: When a shape is wrong.

    Reference:
        Zagoruyko and Komodakis, Paying More Attention to Attention, arXiv 1612.03928.
    """
    student, teacher = paired('AttentionTransfer', student, teacher, same_channels=False)
    return F.mse_loss(attention_map(student), attention_map(teacher))


@MODELS.register_module()
class HintLoss(nn.Module):
    """Module form of :func:`hint_loss` (FitNets), which describes the formula."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two maps (B, C, h, w)."""
        return hint_loss(student, teacher)


@MODELS.register_module()
class AttentionTransfer(nn.Module):
    """Module form of :func:`attention_transfer` (AT), which describes the formula."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of maps (B, C, h, w) and (B, D, h, w)."""
        return attention_transfer(student, teacher)
