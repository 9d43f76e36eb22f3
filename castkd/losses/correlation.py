"""Correlation of predictions instead of their equality (DIST)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.losses.maps import paired
from castkd.registry import MODELS


def correlation_distillation(
    student: Tensor, teacher: Tensor, *, beta: float = 1.0, gamma: float = 1.0
) -> Tensor:
    r"""Compare probabilities by Pearson's correlation, which forgives a difference in scale and offset (DIST).

    .. math::
        L = \beta \Big(1 - \frac{1}{|P|} \sum_p \rho_c(s_p, t_p)\Big)
          + \gamma \Big(1 - \frac{1}{C} \sum_c \rho_p(s_c, t_c)\Big)

    on the softmax over classes of both maps, where :math:`\rho_c` correlates the classes of one pixel, and
    :math:`\rho_p` one class over the B x h x w pixels P of the batch.

    Args:
        student: Logits (B, C, h, w).
        teacher: Logits (B, C, h, w); no gradient flows to them.
        beta: Weight of the correlation between classes, at least 0.
        gamma: Weight of the correlation within a class, at least 0.

    Returns:
        The loss, a scalar in [0, 2 (beta + gamma)].

    Raises:
        ConfigError: When a shape is wrong, such as another number of classes.

    Reference:
        Huang et al., Knowledge Distillation from a Stronger Teacher, arXiv 2205.10536.
    """
    student, teacher = paired('CorrelationDistillation', student, teacher)
    # (C, B h w): a class per row, a pixel per column.
    own, wanted = (
        logits.softmax(dim=1).transpose(0, 1).flatten(1) for logits in (student, teacher)
    )
    between = 1 - _pearson(own, wanted, dim=0).mean()
    within = 1 - _pearson(own, wanted, dim=1).mean()
    return beta * between + gamma * within


def _pearson(first: Tensor, second: Tensor, dim: int) -> Tensor:
    centred = (values - values.mean(dim, keepdim=True) for values in (first, second))
    return F.cosine_similarity(*centred, dim=dim)


@MODELS.register_module()
class CorrelationDistillation(nn.Module):
    """Module form of :func:`correlation_distillation` (DIST), which describes the formula.

    Args:
        beta: Weight of the correlation between classes, at least 0.
        gamma: Weight of the correlation within a class, at least 0.

    Raises:
        ConfigError: When a weight is negative.
    """

    def __init__(self, beta: float = 1.0, gamma: float = 1.0) -> None:
        """Check and store the options."""
        super().__init__()
        check_number('CorrelationDistillation', 'beta', beta, low=0)
        check_number('CorrelationDistillation', 'gamma', gamma, low=0)
        self.beta = beta
        self.gamma = gamma

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of logits (B, C, h, w)."""
        return correlation_distillation(student, teacher, beta=self.beta, gamma=self.gamma)

    def extra_repr(self) -> str:
        """Show the options."""
        return f'beta={self.beta}, gamma={self.gamma}'
