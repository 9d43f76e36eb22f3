"""The strong view: changes of colour and sharpness that leave every pixel where it is."""

from __future__ import annotations

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class StrongPhotometric(BaseTransform):
    """Colour jitter in random order, then grey, then Gaussian blur.

    The defaults are those of CAST. Guided Distillation uses ``jitter_prob=0.8, blur_prob=0.5,
    blur_kernel=None``. Reads and replaces ``img`` (H, W, 3), uint8, BGR; its pixel grid stays aligned with
    the view that it is applied on. Randomness comes from numpy's global state, as in mm's own transforms.

    Args:
        brightness: Factor is drawn from [max(0, 1 - b), 1 + b].
        contrast: As ``brightness``, around the mean grey value.
        saturation: As ``brightness``, around the grey image.
        hue: Shift is drawn from [-h, h] turns of the colour circle, h in [0, 0.5].
        jitter_prob: Probability of the colour jitter.
        gray_prob: Probability that the image loses its colour (it keeps three channels).
        blur_prob: Probability of the blur.
        blur_kernel: Width of the blur kernel in pixels, odd; None lets it grow with sigma.
        blur_sigma: Range of the blur's standard deviation in pixels, each above 0.

    Raises:
        ConfigError: When an option is out of its range.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        jitter_prob: float = 1.0,
        gray_prob: float = 0.2,
        blur_prob: float = 1.0,
        blur_kernel: int | None = 5,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
    ) -> None:
        super().__init__()
        self.strengths = {
            'brightness': brightness,
            'contrast': contrast,
            'saturation': saturation,
            'hue': hue,
        }
        self.jitter_prob = jitter_prob
        self.gray_prob = gray_prob
        self.blur_prob = blur_prob
        self.blur_kernel = blur_kernel
        self.blur_sigma = tuple(blur_sigma)
        self._check()

    def _check(self) -> None:
        owner = type(self).__name__
        for name, value in self.strengths.items():
            check_number(owner, name, value, low=0, high=0.5 if name == 'hue' else None)
        for name in ('jitter_prob', 'gray_prob', 'blur_prob'):
            check_number(owner, name, getattr(self, name), low=0, high=1)
        if self.blur_kernel is not None:
            check_number(owner, 'blur_kernel', self.blur_kernel, low=1, integer=True)
            if self.blur_kernel % 2 == 0:
                raise ConfigError(f'{owner}: blur_kernel must be odd, got {self.blur_kernel}')
        for value in self.blur_sigma:
            check_number(owner, 'blur_sigma', value, low=0, low_open=True)
        if len(self.blur_sigma) != 2 or self.blur_sigma[0] > self.blur_sigma[1]:
            raise ConfigError(f'{owner}: blur_sigma must be (low, high), got {self.blur_sigma}')

    def transform(self, results: dict) -> dict:
        """Change the colours of ``results['img']``.

        Raises:
            ConfigError: When the image is not uint8 with three channels.
        """
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ConfigError(
                f'{type(self).__name__}: img must be uint8 (H, W, 3), got {image.dtype} {image.shape}; '
                'load with castkd.LoadImage and put this transform before any normalisation'
            )
        if np.random.rand() < self.jitter_prob:
            image = self._jitter(image)
        if np.random.rand() < self.gray_prob:
            image = mmcv.gray2bgr(mmcv.bgr2gray(image))
        if np.random.rand() < self.blur_prob:
            image = self._blur(image)
        results['img'] = image
        return results

    def _jitter(self, image: np.ndarray) -> np.ndarray:
        for name in np.random.permutation(list(self.strengths)):
            strength = self.strengths[name]
            if strength == 0:
                continue
            if name == 'hue':
                image = mmcv.adjust_hue(
                    image, np.random.uniform(-strength, strength), backend='cv2'
                )
                continue
            factor = np.random.uniform(max(0.0, 1.0 - strength), 1.0 + strength)
            if name == 'saturation':
                image = mmcv.adjust_color(image, factor, backend='cv2')
            else:
                center = mmcv.bgr2gray(image).mean() if name == 'contrast' else 0.0
                image = _stretch(image, factor, center)
        return image

    def _blur(self, image: np.ndarray) -> np.ndarray:
        size = self.blur_kernel or 0
        sigma = np.random.uniform(*self.blur_sigma)
        return cv2.GaussianBlur(image, (size, size), sigma)

    def __repr__(self) -> str:
        """Return the options, as mm's transforms show theirs."""
        options = dict(
            self.strengths,
            jitter_prob=self.jitter_prob,
            gray_prob=self.gray_prob,
            blur_prob=self.blur_prob,
            blur_kernel=self.blur_kernel,
            blur_sigma=self.blur_sigma,
        )
        return f'{type(self).__name__}({", ".join(f"{key}={value}" for key, value in options.items())})'


def _stretch(image: np.ndarray, factor: float, center: float) -> np.ndarray:
    """Scale the distance of every value from ``center``; a table of 256 entries is tens of times faster than floats."""
    values = center + factor * (np.arange(256) - center)
    return cv2.LUT(image, np.clip(values.round(), 0, 255).astype(np.uint8))
