"""Losses between a student and a teacher that are hierarchical transformers (TransKD, arXiv 2202.13393)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from castkd.errors import ConfigError
from castkd.losses.maps import paired, widen
from castkd.registry import MODELS

_LEVELS = (4, 2, 1)


def hierarchical_context_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Compare feature maps element by element and as averages over ever larger windows (HCL).

    .. math::
        L = \frac{\sum_l w_l \operatorname{mean}\big(P_l(s) - P_l(t)\big)^2}{\sum_l w_l}

    over the map itself (w = 1) and its adaptive average pooling :math:`P_l` to l x l for l = 4, 2, 1. Each level has
    half the weight of the one before. A level that is not smaller than the map's height is left out.

    Args:
        student: Features of one stage (B, C, h, w), behind a connector to the teacher's channels.
        teacher: Features (B, C, h, w); no gradient flows to them.

    Returns:
        The loss, a scalar of at least 0. Computed in float32 (float64 for float64 input).

    Raises:
        ConfigError: When a shape is wrong.

    Example:
        >>> import torch
        >>> feature = torch.randn(2, 3, 8, 8, requires_grad=True)
        >>> hierarchical_context_loss(feature, torch.randn(2, 3, 8, 8)).backward()

    Reference:
        Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021, arXiv 2104.09044.
    """
    ours, theirs = paired('HierarchicalContextLoss', student, teacher)
    # Pooling is linear: one of the difference in place of two of the maps.
    difference = ours - theirs
    total, weights, weight = F.mse_loss(ours, theirs), 1.0, 1.0
    for level in _LEVELS:
        if level < student.shape[2]:
            weight /= 2
            pooled = F.adaptive_avg_pool2d(difference, level)
            total = total + weight * pooled.square().mean()
            weights += weight
    return total / weights


def patch_embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Compare patch embeddings: mean over all elements of (s - t)^2.

    Args:
        student: Tokens of one stage (B, N, C), behind a connector to the teacher's channels.
        teacher: Tokens (B, N, C); no gradient flows to them.

    Returns:
        The loss, a scalar of at least 0. Computed in float32 (float64 for float64 input).

    Raises:
        ConfigError: When a shape is wrong.

    Example:
        >>> import torch
        >>> tokens = torch.randn(2, 9, 4, requires_grad=True)
        >>> patch_embedding_loss(tokens, torch.randn(2, 9, 4)).backward()

    Reference:
        TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation, arXiv 2202.13393.
    """
    if student.dim() != 3 or student.shape != teacher.shape:
        raise ConfigError(
            'PatchEmbeddingLoss: student and teacher must both be (B, N, C), got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}'
        )
    return F.mse_loss(widen(student), widen(teacher.detach()))


@MODELS.register_module()
class HierarchicalContextLoss(nn.Module):
    """Module form of :func:`hierarchical_context_loss`, which describes the formula."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two maps (B, C, h, w)."""
        return hierarchical_context_loss(student, teacher)


@MODELS.register_module()
class PatchEmbeddingLoss(nn.Module):
    """Module form of :func:`patch_embedding_loss`, which describes the formula."""

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two token tensors (B, N, C)."""
        return patch_embedding_loss(student, teacher)
