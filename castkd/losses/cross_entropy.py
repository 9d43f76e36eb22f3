"""Cross-entropy of pixels against hard labels: over all of them, or over the hard ones alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.losses.maps import widen
from castkd.registry import MODELS


def pixel_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
) -> Tensor:
    r"""Mean cross-entropy over the pixels that carry a label.

    .. math:: L = - \operatorname{mean}_{i \in V} \log \mathrm{softmax}(z_i)_{y_i}, \qquad
              V = \{i : y_i \ne ignore\}

    Without any labelled pixel the loss is a zero that is connected to the graph. Computed in float32 (float64 for
    float64 input), also under autocast.

    Args:
        logits: z (B, C, H, W).
        target: y (B, H, W), class indices in [0, C) or ``ignore_index``.
        ignore_index: Value of pixels without a label.

    Returns:
        The loss, a scalar of at least 0.

    Raises:
        ConfigError: When the shapes do not fit.

    Example:
        >>> logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
        >>> loss = pixel_cross_entropy(logits, torch.tensor([[[0, 255]]]))
        >>> loss.backward()
        >>> round(loss.item(), 4)
        0.6931
    """
    _check_shapes('pixel_cross_entropy', logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        total = F.cross_entropy(widen(logits), target, ignore_index=ignore_index, reduction='sum')
        return total / (target != ignore_index).sum().clamp(min=1)


def ohem_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: int = 50_000,
    ignore_index: int = 255,
) -> Tensor:
    r"""Mean cross-entropy over the hard pixels (online hard example mining).

    With :math:`p_i` the probability of the true class and K = ``min_kept`` * B,

    .. math:: t = \max(threshold, \text{K-th smallest } p_i), \qquad
              L = \operatorname{mean}_{i \in V,\; p_i \le t} (- \log p_i)

    Ignored pixels are sorted last, so that a batch with fewer than K labelled pixels V gives the plain mean over V.
    Without any labelled pixel the loss is a zero that is connected to the graph. Computed in float32 (float64 for
    float64 input), also under autocast.

    Args:
        logits: (B, C, H, W).
        target: (B, H, W), class indices in [0, C) or ``ignore_index``.
        threshold: Pixels up to this probability are hard, in (0, 1].
        min_kept: Least number of pixels that count, per image of the batch, at least 1.
        ignore_index: Value of pixels without a label.

    Returns:
        The loss, a scalar of at least 0.

    Raises:
        ConfigError: When an option or a shape is wrong.

    Example:
        >>> logits = torch.randn(2, 3, 8, 8, requires_grad=True)
        >>> ohem_cross_entropy(
        ...     logits, torch.zeros(2, 8, 8, dtype=torch.long), min_kept=10
        ... ).backward()

    Reference:
        Shrivastava et al., "Training Region-based Object Detectors with Online Hard Example Mining", CVPR 2016, in the
        form that semantic segmentation uses (Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight
        Semi-Supervised Semantic Segmentation", ECCV 2022).
    """
    _check_ohem(threshold, min_kept)
    _check_shapes('OHEMCrossEntropy', logits, target)
    with torch.autocast(logits.device.type, enabled=False):
        losses = F.cross_entropy(
            widen(logits), target, ignore_index=ignore_index, reduction='none'
        ).flatten()
        valid = (target != ignore_index).flatten()
        probability = losses.detach().neg().exp().masked_fill(~valid, torch.inf)
        rank = min(min_kept * len(logits), len(probability))
        # Counted by sorting alone, without a look at the numbers, so that a GPU need not wait for the host.
        limit = probability.kthvalue(rank).values.clamp(min=threshold)
        kept = valid & (probability <= limit)
        return (losses * kept).sum() / kept.sum().clamp(min=1)


@MODELS.register_module()
class OHEMCrossEntropy(nn.Module):
    """Module form of :func:`ohem_cross_entropy`; also a ``loss_decode`` of mmseg's decode heads.

    Args:
        threshold: Pixels up to this probability of the true class are hard, in (0, 1].
        min_kept: Least number of pixels that count, per image of the batch, at least 1.
        loss_weight: Factor of the loss, at least 0.
        loss_name: Name under which mmseg logs it; has to contain ``loss``, or it would not be trained on.

    Raises:
        ConfigError: When an option is wrong.
    """

    def __init__(
        self,
        threshold: float = 0.7,
        min_kept: int = 50_000,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_ohem',
    ) -> None:
        """Check and store the options."""
        super().__init__()
        _check_ohem(threshold, min_kept)
        check_number('OHEMCrossEntropy', 'loss_weight', loss_weight, low=0)
        if 'loss' not in loss_name:
            raise ConfigError(
                f"OHEMCrossEntropy: loss_name must contain 'loss', got {loss_name!r}; mmseg trains on such names alone"
            )
        self.threshold = threshold
        self.min_kept = min_kept
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        weight: None = None,
        ignore_index: int = 255,
    ) -> Tensor:
        """Return the loss of logits (B, C, H, W) and target (B, H, W).

        Args:
            logits: See :func:`ohem_cross_entropy`.
            target: See :func:`ohem_cross_entropy`.
            weight: What a pixel sampler of the decode head gives; has to be None.
            ignore_index: Value of pixels without a label.

        Raises:
            ConfigError: When the head has a pixel sampler, or a shape is wrong.
        """
        if weight is not None:
            raise ConfigError(
                'OHEMCrossEntropy: the decode head has a pixel sampler too; this loss picks the pixels itself, remove '
                'the sampler'
            )
        value = ohem_cross_entropy(
            logits,
            target,
            threshold=self.threshold,
            min_kept=self.min_kept,
            ignore_index=ignore_index,
        )
        return value * self.loss_weight

    def extra_repr(self) -> str:
        """Show the options."""
        return (
            f'threshold={self.threshold}, min_kept={self.min_kept}, loss_weight={self.loss_weight}'
        )


def _check_ohem(threshold: float, min_kept: int) -> None:
    check_number('OHEMCrossEntropy', 'threshold', threshold, low=0, low_open=True, high=1)
    check_number('OHEMCrossEntropy', 'min_kept', min_kept, low=1, integer=True)


def _check_shapes(owner: str, logits: Tensor, target: Tensor) -> None:
    if logits.dim() != 4:
        raise ConfigError(f'{owner}: logits must be (B, C, H, W), got {tuple(logits.shape)}')
    wanted = (len(logits), *logits.shape[2:])
    if tuple(target.shape) != wanted:
        raise ConfigError(
            f'{owner}: target must be {wanted} to match the logits, got {tuple(target.shape)}; resize the logits first'
        )
