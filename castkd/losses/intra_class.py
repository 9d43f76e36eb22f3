"""How far the features of a class spread around their mean (IFVD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.errors import ConfigError
from castkd.losses.maps import labels_on_grid, paired
from castkd.registry import MODELS


def intra_class_variation(
    student: Tensor, teacher: Tensor, target: Tensor, *, ignore_index: int = 255
) -> Tensor:
    r"""Compare how typical each pixel is of its class in its image (IFVD).

    .. math::
        L = \frac{1}{B h w} \sum_{p \in P} \big(\cos(s_p, \bar s_{k(p)}) - \cos(t_p, \bar t_{k(p)})\big)^2

    where :math:`\bar f_k` is the mean feature of class k in the image of pixel p, and :math:`P` holds the pixels whose
    label is not ``ignore_index``. When every pixel is ignored the loss is a zero that is connected to the graph.

    Args:
        student: Features (B, C, h, w); gradient also flows through the means.
        teacher: Features (B, D, h, w), with any number of channels; no gradient flows to them.
        target: Labels (B, H, W), integers, brought to (h, w) by the nearest pixel.
        ignore_index: Label of the pixels that do not count.

    Returns:
        The loss, a scalar in [0, 4]; unchanged by a rescaling of either map.

    Raises:
        ConfigError: When a shape is wrong.

    Reference:
        Wang et al., Intra-class Feature Variation Distillation for Semantic Segmentation, ECCV 2020.
    """
    student, teacher = paired('IntraClassVariation', student, teacher, same_channels=False)
    labels = labels_on_grid('IntraClassVariation', target, student)
    lowest, highest = labels.aminmax()
    first = torch.arange(len(labels), device=labels.device).view(-1, 1, 1)
    kept = labels != ignore_index
    _, group = torch.unique(
        (first * (highest - lowest + 1) + labels - lowest)[kept], return_inverse=True
    )
    difference = _typicality(student, kept, group) - _typicality(teacher, kept, group)
    return difference.square().sum() / labels.numel()


def _typicality(feature: Tensor, kept: Tensor, group: Tensor) -> Tensor:
    """Return the cosine (n,) between each kept pixel of (B, C, h, w) and the mean of its group (n,)."""
    pixels = feature.permute(0, 2, 3, 1)[kept]
    groups = int(group.max()) + 1 if len(group) else 0
    sums = pixels.new_zeros(groups, pixels.shape[1]).index_add(0, group, pixels)
    # A cosine needs the direction of the mean alone, but a sum over many pixels has another scale for its epsilon.
    means = sums / torch.bincount(group, minlength=groups)[:, None]
    return F.cosine_similarity(pixels, means[group], dim=1)


@MODELS.register_module()
class IntraClassVariation(nn.Module):
    """Module form of :func:`intra_class_variation` (IFVD), which describes the formula.

    Args:
        ignore_index: Label of the pixels that do not count.
    """

    def __init__(self, ignore_index: int = 255) -> None:
        """Store the option."""
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the loss of maps (B, C, h, w), (B, D, h, w) and labels (B, H, W), which it cannot do without."""
        if target is None:
            raise ConfigError(
                'IntraClassVariation: needs label maps; set labels=True and views that have labels'
            )
        return intra_class_variation(student, teacher, target, ignore_index=self.ignore_index)

    def extra_repr(self) -> str:
        """Show the option."""
        return f'ignore_index={self.ignore_index}'
