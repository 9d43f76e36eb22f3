"""Soft targets: the teacher's distribution over classes at every pixel, or over space in every channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.losses.maps import labels_on_grid, paired
from castkd.registry import MODELS


def logit_distillation(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    tau: float = 1.0,
    ignore_index: int = 255,
) -> Tensor:
    r"""Compare the distributions over classes at every pixel (KD).

    .. math::
        L = \frac{\tau^2}{|P|} \sum_{p \in P} KL\big(\sigma_c(t_p / \tau) \,\|\, \sigma_c(s_p / \tau)\big)

    where :math:`\sigma_c` is the softmax over classes and :math:`P` holds the pixels whose label is not
    ``ignore_index``: all of them without ``target``. When every pixel is ignored the loss is a zero that is
    connected to the graph.

    Args:
        student: Logits (B, C, h, w).
        teacher: Logits (B, C, h, w); no gradient flows to them.
        target: Labels (B, H, W), integers, brought to (h, w) by the nearest pixel; they only say what to ignore.
        tau: Temperature, above 0.
        ignore_index: Label of the pixels that do not count.

    Returns:
        The loss, a scalar of at least 0; 0 for equal maps, unchanged by a constant added to all classes of a pixel.

    Raises:
        ConfigError: When a shape is wrong, such as another number of classes.

    Example:
        >>> import torch
        >>> student = torch.tensor([0.0, 0.0]).view(1, 2, 1, 1)
        >>> teacher = torch.tensor([0.0, 3.0]).log1p().view(1, 2, 1, 1)
        >>> round(logit_distillation(student, teacher).item(), 4)
        0.1927

    Reference:
        Hinton et al., Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
    """
    student, teacher = paired('LogitDistillation', student, teacher)
    divergence = softened_divergence(student, teacher, tau, dim=1)
    if target is None:
        return divergence.mean()
    kept = labels_on_grid('LogitDistillation', target, student) != ignore_index
    return (divergence * kept).sum() / kept.sum().clamp(min=1)


def channel_wise_distillation(student: Tensor, teacher: Tensor, *, tau: float = 4.0) -> Tensor:
    r"""Compare the distributions over positions in every channel (CWD).

    .. math::
        L = \frac{\tau^2}{BC} \sum_{b,c} KL\big(\sigma_p(t_{bc} / \tau) \,\|\, \sigma_p(s_{bc} / \tau)\big)

    where :math:`\sigma_p` is the softmax over the h x w positions of one channel. Every position takes part,
    those of padding and of ignored labels too.

    Args:
        student: Features or logits (B, C, h, w).
        teacher: Features or logits (B, C, h, w); no gradient flows to them.
        tau: Temperature, above 0.

    Returns:
        The loss, a scalar of at least 0; 0 for equal maps, unchanged by a constant added to a channel.

    Raises:
        ConfigError: When a shape is wrong.

    Reference:
        Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, arXiv 2011.13256.
    """
    student, teacher = paired('ChannelWiseDistillation', student, teacher)
    return softened_divergence(student.flatten(2), teacher.flatten(2), tau, dim=2).mean()


def softened_divergence(student: Tensor, teacher: Tensor, tau: float, dim: int) -> Tensor:
    """Return tau^2 KL(softmax(teacher / tau) || softmax(student / tau)) along ``dim``, which is summed away."""
    log_student = F.log_softmax(student / tau, dim)
    log_teacher = F.log_softmax(teacher / tau, dim)
    # From logarithms: the probability of a position in a large map underflows in half precision.
    divergence = F.kl_div(log_student, log_teacher, reduction='none', log_target=True)
    return tau**2 * divergence.sum(dim)


@MODELS.register_module()
class LogitDistillation(nn.Module):
    """Module form of :func:`logit_distillation` (KD), which describes the formula.

    Args:
        tau: Temperature, above 0.
        ignore_index: Label of the pixels that do not count.

    Raises:
        ConfigError: When the temperature is not positive.
    """

    def __init__(self, tau: float = 1.0, ignore_index: int = 255) -> None:
        """Check and store the options."""
        super().__init__()
        check_number('LogitDistillation', 'tau', tau, low=0, low_open=True)
        self.tau = tau
        self.ignore_index = ignore_index

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss of logits (B, C, h, w) and, if given, labels (B, H, W)."""
        return logit_distillation(
            student, teacher, target, tau=self.tau, ignore_index=self.ignore_index
        )

    def extra_repr(self) -> str:
        """Show the options."""
        return f'tau={self.tau}, ignore_index={self.ignore_index}'


@MODELS.register_module()
class ChannelWiseDistillation(nn.Module):
    """Module form of :func:`channel_wise_distillation` (CWD), which describes the formula.

    Args:
        tau: Temperature, above 0.

    Raises:
        ConfigError: When the temperature is not positive.
    """

    def __init__(self, tau: float = 4.0) -> None:
        """Check and store the option."""
        super().__init__()
        check_number('ChannelWiseDistillation', 'tau', tau, low=0, low_open=True)
        self.tau = tau

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of two maps (B, C, h, w)."""
        return channel_wise_distillation(student, teacher, tau=self.tau)

    def extra_repr(self) -> str:
        """Show the option."""
        return f'tau={self.tau}'
