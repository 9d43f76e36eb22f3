"""What objectives of segmentors share: logits, labels and agreement per pixel of the images, a check of classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from castkd.errors import ConfigError
from castkd.losses.maps import resize_maps
from castkd.semantic import IGNORE, ignore_padding
from castkd.structures import Step
from castkd.teachers import Teacher


class LogitMaps:
    """Logits of segmentors at the size of the images, resized as each network's (last) decode head resizes them.

    Args:
        tap: Tap of the logits of all networks, (B, C, h, w).
    """

    def __init__(self, tap: str) -> None:
        self.tap = tap
        self._aligned: dict[str, bool] = {}

    def bind(self, trained: Mapping[str, nn.Module], teachers: Mapping[str, Teacher]) -> None:
        """Keep how each network resizes; one without a decode head does not align corners."""
        networks = {**trained, **{name: teacher.model for name, teacher in teachers.items()}}
        for name, network in networks.items():
            head = getattr(network, 'decode_head', None)
            last = head[-1] if isinstance(head, nn.ModuleList) else head
            self._aligned[name] = getattr(last, 'align_corners', False)

    def full(self, step: Step, network: str, view: str) -> Tensor:
        """Return a network's logits (B, C, H, W) on a view."""
        size = step.inputs[view].shape[-2:]
        aligned = self._aligned.get(network, False)
        return resize_maps(step[network, view].taps[self.tap], size, aligned)

    @torch.no_grad()
    def labels(self, step: Step, network: str, view: str, *, mask_padding: bool = False) -> Tensor:
        """Return a network's most likely class per pixel of a view, (B, H, W), int64; 255 in masked padding."""
        labels = self.full(step, network, view).argmax(dim=1)
        if mask_padding:
            for image, sample in zip(labels, step.samples[view], strict=True):
                ignore_padding(image, sample)
        return labels


def agreement(first: Tensor, second: Tensor) -> Tensor:
    """Return the share of pixels on whose class two maps (B, H, W) agree, of those that the first does not ignore.

    It is 0 when that ignores all.
    """
    known = first != IGNORE
    return ((first == second) & known).sum() / known.sum().clamp(min=1)


def check_same_classes(owner: str, network: str, logits: Tensor, student: Tensor) -> None:
    """Check that a network's logits (B, C, h, w) have the student's classes.

    Raises:
        ConfigError: When their numbers differ.
    """
    if logits.shape[1] != student.shape[1]:
        raise ConfigError(
            f'{owner}: {network!r} has {logits.shape[1]} classes and the student {student.shape[1]}; set num_classes '
            'of its decode head, or take a checkpoint that was trained on the same classes in the same order'
        )
