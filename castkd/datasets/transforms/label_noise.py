"""Label maps that a network may read: noised so that it cannot copy them to its output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError, DataError
from castkd.registry import MODELS


@MODELS.register_module()
class LabelNoise(nn.Module):
    r"""Turn a label map into one channel of noised region values: class-wise, then pixel-wise.

    .. math:: m_{n,p} = scale \cdot (w_{n, y_{n,p}} + \sigma \epsilon_{n,p}), \qquad \epsilon \sim N(0, 1)

    A class has one value per image, so the channel keeps the layout of the regions and loses which class each is.
    Ignored pixels, padding among them, are one class more, with index C. ``mode`` says where the values w come from:

    - ``random``: drawn from N(0, 1), per image and class, in every call.
    - ``fixed``: the same evenly spaced values for all images, :math:`w_k = (k - K/2) \cdot 2.2 / K` with K = C + 1 and
      the ignored class last; for 21 classes -1.1, -1.0, ..., 1.0. With many classes neighbours lie closer than the
      pixel noise; take ``random`` there.

    Runs on whole batches after all augmentation, on the labels that also supervise the loss.

    Args:
        num_classes: C, at least 1.
        mode: ``random`` or ``fixed``.
        sigma: Deviation of the pixel noise before scaling, at least 0.
        scale: Deviation of the channel in ``random`` mode, in image levels of [0, 255].
        ignore_index: Label of pixels without a class; outside [0, C).

    Raises:
        ConfigError: When an option is wrong.

    Example:
        >>> noise = LabelNoise(num_classes=3, mode='fixed', sigma=0.0, scale=1.0)
        >>> noise(torch.tensor([[[0, 1], [2, 255]]]))
        tensor([[[[-1.1000, -0.5500],
                  [ 0.0000,  0.5500]]]])

    Reference:
        Qiu et al., "Make a Strong Teacher with Label Assistance: A Novel Knowledge Distillation Approach for Semantic
        Segmentation", ECCV 2024 (arXiv 2407.13254).
    """

    def __init__(
        self,
        num_classes: int,
        mode: str = 'random',
        sigma: float = 0.03,
        scale: float = 100.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__()
        check_number('LabelNoise', 'num_classes', num_classes, low=1, integer=True)
        check_choice('LabelNoise', 'mode', mode, ('random', 'fixed'))
        check_number('LabelNoise', 'sigma', sigma, low=0)
        check_number('LabelNoise', 'scale', scale, low=0, low_open=True)
        if 0 <= ignore_index < num_classes:
            raise ConfigError(
                f'LabelNoise: ignore_index must lie outside the classes 0 to {num_classes - 1}, got {ignore_index}'
            )
        self.num_classes = num_classes
        self.mode = mode
        self.sigma = sigma
        self.scale = scale
        self.ignore_index = ignore_index

    def forward(self, labels: Tensor) -> Tensor:
        """Noise a batch of label maps.

        Args:
            labels: (B, H, W), class indices in [0, C) or ``ignore_index``, of an integer type.

        Returns:
            (B, 1, H, W), float32, without gradient.

        Raises:
            ConfigError: When ``labels`` has another form.
            DataError: When a label is no class.
        """
        if labels.dim() != 3 or labels.is_floating_point():
            raise ConfigError(
                f'LabelNoise: labels must be integers (B, H, W), got {labels.dtype} {tuple(labels.shape)}'
            )
        index = self._class_index(labels).flatten(1)
        values = self._class_values(len(labels), labels.device).gather(1, index)
        noised = self.scale * (values + self.sigma * torch.randn_like(values))
        return noised.view(len(labels), 1, *labels.shape[1:])

    def _class_index(self, labels: Tensor) -> Tensor:
        """Return the place of every label in the table of values; the ignored class is the last one."""
        index = labels.long().masked_fill(labels == self.ignore_index, self.num_classes)
        wrong = (index < 0) | ((index >= self.num_classes) & (labels != self.ignore_index))
        if wrong.any():
            raise DataError(
                f'LabelNoise: a label map holds {int(labels[wrong][0])}, which is neither one of the '
                f'{self.num_classes} classes (0 to {self.num_classes - 1}) nor {self.ignore_index} (ignored); '
                'check the label maps and the number of classes'
            )
        return index

    def _class_values(self, images: int, device: torch.device) -> Tensor:
        """Return the value of every class in every image (B, K)."""
        count = self.num_classes + 1
        if self.mode == 'random':
            return torch.randn(images, count, device=device)
        # Divided last, so that the value of the middle class is an exact zero.
        steps = torch.arange(count, device=device) - count / 2
        return (steps * 2.2 / count).expand(images, count)

    def extra_repr(self) -> str:
        """Show the options."""
        return f'num_classes={self.num_classes}, mode={self.mode}, sigma={self.sigma}, scale={self.scale}'
