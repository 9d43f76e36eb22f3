"""Turn the student's normalised images into a teacher's input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InputConverter:
    """Convert normalised student images to another network's normalisation, channel order and size.

    Args:
        source: The student's image preprocessor (an mmengine ``ImgDataPreprocessor``).
        target: The teacher's image preprocessor.
        scale: Factor of the teacher's image size to the student's.
    """

    def __init__(self, source: nn.Module, target: nn.Module, scale: float = 1.0) -> None:
        self.scale = scale
        self.source_mean, self.source_std, source_swaps = _normalisation(source)
        self.target_mean, self.target_std, target_swaps = _normalisation(target)
        self.swaps = source_swaps != target_swaps
        self.renormalises = self.swaps or not (
            torch.equal(self.source_mean, self.target_mean)
            and torch.equal(self.source_std, self.target_std)
        )

    def describe(self) -> str:
        """Say in words what is converted; empty when nothing is."""
        parts = []
        if self.renormalises:
            parts.append(
                f'mean {self._text(self.source_mean)} -> {self._text(self.target_mean)}, '
                f'std {self._text(self.source_std)} -> {self._text(self.target_std)}'
            )
        if self.swaps:
            parts.append('RGB and BGR swapped')
        if self.scale != 1.0:
            parts.append(f'image size x {self.scale:g}')
        return '; '.join(parts)

    @staticmethod
    def _text(values: Tensor) -> str:
        return '(' + ', '.join(f'{value:g}' for value in values.flatten().tolist()) + ')'

    def __call__(self, inputs: Tensor, samples: list) -> tuple[Tensor, list]:
        """Convert a batch.

        Args:
            inputs: Images normalised for the student, (B, 3, H, W).
            samples: Their data samples.

        Returns:
            Images for the teacher, (B, 3, H * scale, W * scale), and data samples whose sizes fit them.
        """
        if self.renormalises:
            inputs = self._renormalise(inputs, samples)
        if self.scale == 1.0:
            return inputs, samples
        size = [round(side * self.scale) for side in inputs.shape[-2:]]
        inputs = F.interpolate(inputs, size=size, mode='bilinear', align_corners=False)
        return inputs, [self._resized(sample, tuple(size)) for sample in samples]

    def _renormalise(self, inputs: Tensor, samples: list) -> Tensor:
        pixels = inputs * self.source_std.to(inputs) + self.source_mean.to(inputs)
        if self.swaps:
            pixels = pixels[:, [2, 1, 0]]
        converted = (pixels - self.target_mean.to(inputs)) / self.target_std.to(inputs)
        # Padding is zero after normalisation, in whichever normalisation.
        for image, sample in zip(converted, samples, strict=True):
            height, width = sample.metainfo['img_shape'][:2]
            image[:, height:] = 0
            image[:, :, width:] = 0
        return converted

    def _resized(self, sample: object, size: tuple[int, int]) -> object:
        height, width = sample.metainfo['img_shape'][:2]
        resized = sample.clone()
        resized.set_metainfo(
            {
                'img_shape': (round(height * self.scale), round(width * self.scale)),
                'batch_input_shape': size,
                'pad_shape': size,
            }
        )
        return resized


def _normalisation(preprocessor: nn.Module) -> tuple[Tensor, Tensor, bool]:
    """Return mean (3, 1, 1), std (3, 1, 1) and whether channels are swapped."""
    inner = getattr(preprocessor, 'data_preprocessor', preprocessor)
    mean = getattr(inner, 'mean', None)
    if mean is None:
        ones = torch.ones(3, 1, 1)
        return torch.zeros(3, 1, 1), ones, bool(getattr(inner, '_channel_conversion', False))
    return mean.cpu(), inner.std.cpu(), bool(getattr(inner, '_channel_conversion', False))
