"""Losses of multi-granularity distillation between a student and frozen teachers.

Qin et al., "Multi-Granularity Distillation Scheme Towards Lightweight Semi-Supervised Semantic Segmentation", ECCV 2022
(arXiv 2208.10169). The pixel level is :func:`castkd.losses.cross_entropy.pixel_cross_entropy`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.losses.maps import paired
from castkd.registry import MODELS

# The authors sum over a batch of two images per GPU, and their weights of the loss belong to that sum.
_REFERENCE_BATCH = 2
_EPS = 1e-8


def image_semantic_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Image level: distance between the globally pooled logits.

    .. math:: L_I = \frac{2}{B} \sum_b \sum_c | \mathrm{GAP}(z^S)_{bc} - \mathrm{GAP}(z^T)_{bc} |

    The authors' code sums over the batch, of two images per GPU; this form has the same value there and does not depend
    on the batch otherwise. The logits are not normalised, and their places in the image play no role. Gradient flows
    to the student alone. Computed in float32 (float64 for float64 input), also under autocast.

    Args:
        student_logits: (B, C, H, W).
        teacher_logits: (B, C, H', W') of the same images and classes; detached here.

    Returns:
        The loss, a scalar of at least 0.

    Raises:
        ConfigError: When the shapes do not fit.

    Example:
        >>> logits = torch.randn(2, 3, 8, 8, requires_grad=True)
        >>> image_semantic_loss(logits, torch.randn(2, 3, 8, 8)).backward()
    """
    student, teacher = paired('ImageSemanticLoss', student_logits, teacher_logits, same_grid=False)
    with torch.autocast(student.device.type, enabled=False):
        pooled = student.mean(dim=(2, 3)) - teacher.mean(dim=(2, 3))
        return _REFERENCE_BATCH * pooled.abs().sum(dim=1).mean()


def region_content_loss(
    student_feature: Tensor, teacher_feature: Tensor, *, grid: int = 7
) -> Tensor:
    r"""Region level: distance between the correlations of the regions of an image.

    With :math:`a_i` the feature averaged over region i of ``grid`` x ``grid`` (adaptive windows, which overlap where
    the side is no multiple of the grid and repeat where it is smaller),

    .. math:: m_{ij} = \frac{\langle a_i, a_j \rangle}{|a_i| |a_j|}, \qquad
              L_R = \operatorname{mean}_{b,i,j} (m^S_{bij} - m^T_{bij})^2

    The correlations have no channels, so student and teacher may differ in width and size. A region that is zero
    throughout correlates with nothing (0), without a division by zero. Gradient flows to the student alone. Computed in
    float32 (float64 for float64 input), also under autocast.

    Args:
        student_feature: (B, D, h, w).
        teacher_feature: (B, D', h', w') of the same images; detached here.
        grid: Regions per side, at least 1.

    Returns:
        The loss, a scalar in [0, 4].

    Raises:
        ConfigError: When the grid or a shape is wrong.

    Example:
        >>> feature = torch.randn(2, 4, 9, 12, requires_grad=True)
        >>> region_content_loss(feature, torch.randn(2, 6, 5, 5)).backward()
    """
    owner = 'RegionContentLoss'
    check_number(owner, 'grid', grid, low=1, integer=True)
    student, teacher = paired(
        owner, student_feature, teacher_feature, same_channels=False, same_grid=False
    )
    with torch.autocast(student.device.type, enabled=False):
        return (_correlations(student, grid) - _correlations(teacher, grid)).square().mean()


def _correlations(feature: Tensor, grid: int) -> Tensor:
    regions = F.adaptive_avg_pool2d(feature, grid).flatten(2)
    unit = F.normalize(regions, dim=1, eps=_EPS)
    return unit.transpose(1, 2) @ unit


@MODELS.register_module()
class ImageSemanticLoss(nn.Module):
    """Module form of :func:`image_semantic_loss`."""

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Return the loss of logits (B, C, H, W)."""
        return image_semantic_loss(student_logits, teacher_logits)


@MODELS.register_module()
class RegionContentLoss(nn.Module):
    """Module form of :func:`region_content_loss`.

    Args:
        grid: Regions per side, at least 1.

    Raises:
        ConfigError: When the grid is wrong.
    """

    def __init__(self, grid: int = 7) -> None:
        """Check and store the grid."""
        super().__init__()
        check_number('RegionContentLoss', 'grid', grid, low=1, integer=True)
        self.grid = grid

    def forward(self, student_feature: Tensor, teacher_feature: Tensor) -> Tensor:
        """Return the loss of features (B, D, h, w) and (B, D', h', w')."""
        return region_content_loss(student_feature, teacher_feature, grid=self.grid)

    def extra_repr(self) -> str:
        """Show the grid."""
        return f'grid={self.grid}'
