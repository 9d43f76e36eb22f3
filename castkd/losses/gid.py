"""Losses of general instance distillation: features, relations and responses of the boxes that were selected.

Dai et al., "General Instance Distillation for Object Detection", CVPR 2021 (arXiv 2103.02340). The boxes come from
:mod:`castkd.losses.gid_selection`. Every loss is computed in float32 (float64 for float64 input), also under autocast;
gradient flows to the student alone. Without any instance a loss is a zero that is connected to the student's graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError
from castkd.losses.maps import widen
from castkd.losses.soft_targets import softened_divergence
from castkd.registry import MODELS

FORMS = ('mean_square', 'l2norm')
SCOPES = ('batch', 'image')
# Two instances have one distance, which is 1 once it is divided by the mean.
_LEAST = 3
_EPS = 1e-12


def instance_feature_loss(student: Tensor, teacher: Tensor, *, form: str = 'mean_square') -> Tensor:
    r"""Compare the pooled features of general instances.

    .. math::
        L = \frac{1}{G h w} \sum_{i,c,p} (t_{icp} - s_{icp})^2 \quad \text{(mean_square)} \qquad
        L = \frac{1}{G} \sum_i \|t_i - s_i\|_2 \quad \text{(l2norm)}

    The first is what the author's code computes, the second the paper's formula taken literally; the published weight
    5e-4 suits both sizes.

    Args:
        student: Features (G, C, h, w), behind the adapter.
        teacher: Features (G, C, h, w).
        form: ``mean_square`` or ``l2norm``.

    Returns:
        The loss, a scalar of at least 0; 0 for equal features.

    Raises:
        ConfigError: When the form or a shape is wrong.

    Example:
        >>> student = torch.zeros(2, 4, 10, 10, requires_grad=True)
        >>> loss = instance_feature_loss(student, torch.full((2, 4, 10, 10), 0.5))
        >>> loss.backward()
        >>> loss.item()
        1.0
    """
    owner = 'InstanceFeatureLoss'
    check_choice(owner, 'form', form, FORMS)
    _check_pair(owner, student, teacher, 'features (G, C, h, w)', dims=4)
    difference = widen(student) - widen(teacher.detach())
    if form == 'l2norm':
        return torch.linalg.vector_norm(difference.flatten(1), dim=1).sum() / max(1, len(student))
    positions = max(1, len(student) * student.shape[2:].numel())
    return difference.square().sum() / positions


def relation_loss(
    student: Tensor, teacher: Tensor, image_index: Tensor | None = None, *, scope: str = 'batch'
) -> Tensor:
    r"""Compare the distances between general instances, in units of their mean.

    .. math::
        L = \frac{1}{n(n-1)} \sum_{i \neq j} \ell\Big(\frac{d^t_{ij}}{\phi^t} - \frac{d^s_{ij}}{\phi^s}\Big), \quad
        d_{ij} = \|f_i - f_j\|_2, \quad \phi = \operatorname{mean}_{i \neq j} d_{ij}

    with the Huber function :math:`\ell` of threshold 1. Unchanged when all features of a network are multiplied by a
    positive number, or the instances are permuted in both.

    Args:
        student: Features (G, ...), flattened here.
        teacher: Features (G, ...) of the same instances; they may have another size.
        image_index: (G,), the image each instance belongs to; ``scope='image'`` needs it.
        scope: ``batch`` relates all instances, across images too (the author's code); ``image`` those of one image, and
            averages over the images that have at least three.

    Returns:
        The loss, a scalar of at least 0; 0 with fewer than three instances, between which there is nothing to compare.

    Raises:
        ConfigError: When the scope or a shape is wrong, or ``image_index`` is missing.

    Example:
        >>> teacher = torch.tensor([[0.0], [1.0], [3.0]])
        >>> student = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
        >>> round(relation_loss(student, teacher).item(), 6)
        0.083333
    """
    owner = 'RelationLoss'
    check_choice(owner, 'scope', scope, SCOPES)
    _check_pair(owner, student, teacher, 'features (G, ...)', same_shape=False)
    if scope == 'image':
        if image_index is None or tuple(image_index.shape) != (len(student),):
            raise ConfigError(
                f"{owner}: scope='image' needs image_index ({len(student)},), the image of every instance, got "
                f'{None if image_index is None else tuple(image_index.shape)}'
            )
        groups = [image_index == image for image in image_index.unique()]
    else:
        groups = [torch.ones(len(student), dtype=torch.bool, device=student.device)]
    result = widen(student)
    with torch.autocast(student.device.type, enabled=False):
        values = [
            F.smooth_l1_loss(_relations(student[group]), _relations(teacher[group].detach()))
            for group in groups
            if group.sum() >= _LEAST
        ]
    if not values:
        return result[:0].sum()
    return torch.stack(values).mean().to(result.dtype)


def _relations(features: Tensor) -> Tensor:
    """Return the distances of all pairs i < j of (n, ...), divided by their mean: (n (n - 1) / 2,)."""
    # Squared norms minus products lose the small distances of long vectors: the mean is taken out, and twice the
    # digits keep what is left. All differences at once would be n times larger than the features.
    values = features.flatten(1).double()
    values = values - values.mean(dim=0).detach()
    products = values @ values.T
    rows, columns = torch.triu_indices(len(values), len(values), 1, device=values.device)
    norms = products.diagonal()
    squares = norms[rows] + norms[columns] - 2 * products[rows, columns]
    # The root's slope is infinite at 0, where two instances are equal.
    distances = squares.clamp(min=_EPS).sqrt()
    return distances / distances.mean()


def soft_class_response(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Compare independent class probabilities with those of the teacher as soft targets.

    .. math:: L = -\frac{1}{N} \sum_{r,c} \hat{y}_{rc} \log y_{rc} + (1 - \hat{y}_{rc}) \log (1 - y_{rc})

    with the sigmoids :math:`\hat{y}` of the teacher and :math:`y` of the student; no focal factor. At equal logits what
    is left is the teacher's entropy, which is ``soft_class_response(teacher, teacher)``.

    Args:
        student_logits: (N, C), of the slots that the response covers.
        teacher_logits: (N, C).

    Returns:
        The loss, a scalar of at least the teacher's entropy.

    Raises:
        ConfigError: When a shape is wrong.

    Example:
        >>> loss = soft_class_response(torch.zeros(1, 2), torch.tensor([[2.0, -2.0]]))
        >>> round(loss.item(), 6)
        1.386294
    """
    _check_pair('soft_class_response', student_logits, teacher_logits, 'logits (N, C)', dims=2)
    targets = widen(teacher_logits.detach()).sigmoid()
    total = F.binary_cross_entropy_with_logits(widen(student_logits), targets, reduction='sum')
    return total / max(1, len(student_logits))


def delta_response(
    student: Tensor, teacher: Tensor, *, beta: float = 0.0, weight: Tensor | None = None
) -> Tensor:
    r"""Compare raw box regressions with those of the teacher: the sum over four, averaged over N.

    Args:
        student: Encoded boxes (N, 4) as the head gives them.
        teacher: Encoded boxes (N, 4) for the same anchors and coder.
        beta: Threshold of the smooth L1 distance, at least 0; 0 is the L1 distance.
        weight: Factor (N,) of every box; None for 1.

    Returns:
        The loss, a scalar of at least 0; 0 for equal boxes.

    Raises:
        ConfigError: When beta or a shape is wrong.

    Example:
        >>> delta_response(torch.zeros(2, 4), torch.ones(2, 4)).item()
        4.0
    """
    owner = 'delta_response'
    check_number(owner, 'beta', beta, low=0)
    _check_pair(owner, student, teacher, 'encoded boxes (N, 4)', dims=2)
    each = F.smooth_l1_loss(
        widen(student), widen(teacher.detach()), reduction='none', beta=beta
    ).sum(dim=1)
    if weight is not None:
        each = each * weight.detach()
    return each.sum() / max(1, len(student))


def class_divergence(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""Compare distributions over classes and background: mean of KL(softmax(t) || softmax(s)) over the boxes.

    Args:
        student_logits: (G, C + 1), of a RoI head on the general instances.
        teacher_logits: (G, C + 1).

    Returns:
        The loss, a scalar of at least 0; 0 for equal distributions.

    Raises:
        ConfigError: When a shape is wrong.
    """
    _check_pair('class_divergence', student_logits, teacher_logits, 'logits (G, C + 1)', dims=2)
    divergence = softened_divergence(
        widen(student_logits), widen(teacher_logits.detach()), tau=1.0, dim=1
    )
    return divergence.sum() / max(1, len(student_logits))


def mask_response(student_logits: Tensor, teacher_logits: Tensor, weight: Tensor) -> Tensor:
    r"""Compare the masks of general instances with those of the teacher as soft targets.

    .. math:: L = \frac{\sum_i w_i \operatorname{mean}_p BCE\big(s_{ip}, \sigma(t_{ip})\big)}{\max(\sum_i w_i, 1)}

    Args:
        student_logits: Mask logits (G, h, w), those of the class that the teacher finds most likely.
        teacher_logits: Mask logits (G, h, w) of the same class.
        weight: w (G,), such as the teacher's probability that the box holds an object; at least 0.

    Returns:
        The loss, a scalar of at least the teacher's entropy.

    Raises:
        ConfigError: When a shape is wrong.
    """
    _check_pair('mask_response', student_logits, teacher_logits, 'mask logits (G, h, w)', dims=3)
    targets = widen(teacher_logits.detach()).sigmoid()
    each = F.binary_cross_entropy_with_logits(widen(student_logits), targets, reduction='none')
    weight = widen(weight.detach())
    return (weight * each.mean(dim=(1, 2))).sum() / weight.sum().clamp(min=1)


def _check_pair(
    owner: str,
    student: Tensor,
    teacher: Tensor,
    what: str,
    *,
    dims: int | None = None,
    same_shape: bool = True,
) -> None:
    for name, value in (('student', student), ('teacher', teacher)):
        if value.dim() < 2 or (dims is not None and value.dim() != dims):
            raise ConfigError(f'{owner}: {name} must be {what}, got {tuple(value.shape)}')
    if len(student) != len(teacher) or (same_shape and student.shape != teacher.shape):
        raise ConfigError(
            f'{owner}: student and teacher must be {what} of the same instances, got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}'
        )


@MODELS.register_module()
class InstanceFeatureLoss(nn.Module):
    """Module form of :func:`instance_feature_loss`, which describes the formula.

    Args:
        form: ``mean_square`` or ``l2norm``.

    Raises:
        ConfigError: When the form is unknown.
    """

    def __init__(self, form: str = 'mean_square') -> None:
        """Check and store the option."""
        super().__init__()
        check_choice('InstanceFeatureLoss', 'form', form, FORMS)
        self.form = form

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of features (G, C, h, w)."""
        return instance_feature_loss(student, teacher, form=self.form)

    def extra_repr(self) -> str:
        """Show the option."""
        return f'form={self.form!r}'


@MODELS.register_module()
class RelationLoss(nn.Module):
    """Module form of :func:`relation_loss`, which describes the formula.

    Args:
        scope: ``batch`` or ``image``.

    Raises:
        ConfigError: When the scope is unknown.
    """

    def __init__(self, scope: str = 'batch') -> None:
        """Check and store the option."""
        super().__init__()
        check_choice('RelationLoss', 'scope', scope, SCOPES)
        self.scope = scope

    def forward(
        self, student: Tensor, teacher: Tensor, image_index: Tensor | None = None
    ) -> Tensor:
        """Return the loss of features (G, ...) and, per image, their images (G,)."""
        return relation_loss(student, teacher, image_index, scope=self.scope)

    def extra_repr(self) -> str:
        """Show the option."""
        return f'scope={self.scope!r}'
