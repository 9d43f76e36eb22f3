"""Label-assisted networks: segmentors that read the image and, as a fourth channel, its noised label map.

Qiu et al., "Make a Strong Teacher with Label Assistance: A Novel Knowledge Distillation Approach for Semantic
Segmentation", ECCV 2024 (arXiv 2407.13254).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.segmentors import CascadeEncoderDecoder, EncoderDecoder
from torch import Tensor, nn

from castkd.checks import check_number
from castkd.datasets.transforms import LabelNoise
from castkd.errors import ConfigError
from castkd.losses.maps import resize_labels
from castkd.registry import MODELS, build_model
from castkd.semantic import IGNORE
from castkd.teachers.frozen import FrozenTeacher

IMAGE_CHANNELS = 3


class LabelAssistance:
    """What makes an mmseg segmentor label-assisted; mixed into its class.

    The config is that of the ordinary segmentor: the stem is widened here. Labels come from the data samples, so
    training, validation and testing need nothing else; what is predicted with labels is no measure of a network
    that works without them. The label channel is divided by the mean standard deviation of the image normalisation,
    so that it keeps its size beside the image's channels.

    Args:
        args: As of the segmentor.
        train_noise: Config of :class:`~castkd.datasets.transforms.LabelNoise` in train mode, drawn anew in every run;
            None is the paper's: ``random``, sigma 0.03.
        test_noise: The same in eval mode; None is the paper's for a teacher: ``fixed``, sigma 0.02.
        label_std: Deviation of the first weights of the label channel, at least 0.
        options: As of the segmentor.

    Raises:
        ConfigError: When an option is wrong, or the backbone has no convolution that reads the image.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - as of the segmentor
        train_noise: dict | LabelNoise | None = None,
        test_noise: dict | LabelNoise | None = None,
        label_std: float = 0.1,
        **options: Any,  # noqa: ANN401 - as of the segmentor
    ) -> None:
        super().__init__(*args, **options)
        check_number(type(self).__name__, 'label_std', label_std, low=0)
        self.label_std = label_std
        train_noise = train_noise or {'type': 'castkd.LabelNoise', 'mode': 'random', 'sigma': 0.03}
        test_noise = test_noise or {'type': 'castkd.LabelNoise', 'mode': 'fixed', 'sigma': 0.02}
        self.train_noise = build_model(train_noise, num_classes=self.num_classes)
        self.test_noise = build_model(test_noise, num_classes=self.num_classes)
        self._stem = widen_stem(self.backbone, label_std)

    def init_weights(self) -> None:
        """Initialise; weights of an ordinary network, where a file gives them, are inflated to four channels."""
        if self.is_init:
            super().init_weights()
            return
        stem = self.backbone.get_submodule(self._stem)
        loaded = []

        def inflate(_module: nn.Module, state: dict, prefix: str, *_: Any) -> None:  # noqa: ANN401
            weight = state.get(f'{prefix}weight')
            if weight is not None:
                loaded.append(prefix)
                if weight.shape[1] == IMAGE_CHANNELS:
                    state[f'{prefix}weight'] = inflated(weight, self.label_std)

        # Here alone: a later load of another network's weights is to fail.
        handle = stem.register_load_state_dict_pre_hook(inflate)
        try:
            super().init_weights()
        finally:
            handle.remove()
        if not loaded:
            nn.init.normal_(stem.weight[:, IMAGE_CHANNELS:].detach(), std=self.label_std)

    def attach_labels(self, inputs: Tensor, samples: list | None) -> Tensor:
        """Return images with their noised labels as the last channel.

        Args:
            inputs: Normalised images (B, 3, H, W); (B, 4, H, W) have their labels already and come back as they are.
            samples: Data samples with ``gt_sem_seg`` (1, h, w): in the pixels of ``inputs``, or in those of the image
                file where the pipeline loads labels after it resized the image.

        Returns:
            (B, 4, H, W).

        Raises:
            ConfigError: When an image has no label map.
            DataError: When a label is no class.
        """
        if inputs.shape[1] > IMAGE_CHANNELS:
            return inputs
        size = tuple(inputs.shape[-2:])
        maps = [self._label_map(sample, size) for sample in samples or [None]]
        noise = self.train_noise if self.training else self.test_noise
        labels = noise(torch.stack(maps).to(inputs.device)).to(inputs.dtype)
        std = getattr(self.data_preprocessor, 'std', None)
        return torch.cat([inputs, labels if std is None else labels / std.mean()], dim=1)

    def _label_map(self, sample: Any, size: tuple[int, int]) -> Tensor:  # noqa: ANN401 - data samples
        """Return the labels (H, W) of one image on the network's input; padding is ignored."""
        if sample is None or 'gt_sem_seg' not in sample:
            name = None if sample is None else sample.metainfo.get('img_path')
            raise ConfigError(
                f'{type(self).__name__} reads the label map of every image, and {name or "the image"} comes without '
                'one; load label maps in the pipeline of this view, or take a network that needs none'
            )
        labels = sample.gt_sem_seg.data[0]
        if tuple(labels.shape) == size:
            return labels
        shape = tuple(sample.metainfo['img_shape'][:2])
        labels = resize_labels(labels[None], shape)[0]
        return F.pad(labels, (0, size[1] - shape[1], 0, size[0] - shape[0]), value=IGNORE)

    def extract_feat(self, inputs: Tensor) -> Any:  # noqa: ANN401 - features of any form
        """Return the features of images with labels (B, 4, H, W).

        Raises:
            ConfigError: When the labels are not there.
        """
        if inputs.shape[1] == IMAGE_CHANNELS:
            raise ConfigError(
                f'{type(self).__name__} was called on images without labels, {tuple(inputs.shape)}; it has to get '
                'data samples with gt_sem_seg, as a teacher castkd.LabelAssistedTeacher gives it'
            )
        return super().extract_feat(inputs)

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """Return the segmentor's own losses, with labels drawn anew, see :meth:`attach_labels`."""
        return super().loss(self.attach_labels(inputs, data_samples), data_samples)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Return the segmentor's predictions, see :meth:`attach_labels`."""
        return super().predict(self.attach_labels(inputs, data_samples), data_samples)

    def _forward(self, inputs: Tensor, data_samples: list | None = None) -> Tensor:
        return super()._forward(self.attach_labels(inputs, data_samples), data_samples)


@MODELS.register_module()
class LabelAssistedSegmentor(LabelAssistance, EncoderDecoder):
    """mmseg's ``EncoderDecoder`` with labels, see :class:`LabelAssistance`."""


@MODELS.register_module()
class LabelAssistedCascadeSegmentor(LabelAssistance, CascadeEncoderDecoder):
    """mmseg's ``CascadeEncoderDecoder`` (OCRNet) with labels, see :class:`LabelAssistance`."""


@MODELS.register_module()
class LabelAssistedTeacher(FrozenTeacher):
    """A label-assisted network from a checkpoint, frozen; it reads the labels of the view that it runs on.

    On unlabelled images these are pseudo-labels that an earlier stage wrote and the data set reads.

    Args:
        model: Config of the network, ``castkd.LabelAssistedSegmentor`` or its cascaded form, or the network.
        checkpoint: See :class:`~castkd.teachers.frozen.FrozenTeacher`.
        classes: See :class:`~castkd.teachers.base.Teacher`; the labels it reads are the student's, so both have the
            same.
        student: The distiller's student; not used here.

    Raises:
        ConfigError: When the network is not label-assisted.
    """

    def __init__(
        self,
        model: dict | nn.Module,
        checkpoint: str,
        *,
        classes: tuple[str, ...] | None = None,
        student: nn.Module | None = None,
    ) -> None:
        super().__init__(model, checkpoint, classes=classes, student=student)
        if not isinstance(self.model, LabelAssistance):
            raise ConfigError(
                f'LabelAssistedTeacher: {type(self.model).__name__} reads no labels; use castkd.LabelAssistedSegmentor '
                'or a castkd.FrozenTeacher for an ordinary network'
            )

    def _converted(self, inputs: Tensor, samples: list) -> tuple[Tensor, list]:
        inputs, samples = super()._converted(inputs, samples)
        return self.model.attach_labels(inputs, samples), samples


def inflated(weight: Tensor, label_std: float) -> Tensor:
    """Return weights (D, 4, k, k) of a stem: those of the image (D, 3, k, k) and, for the label, N(0, label_std^2)."""
    label = torch.empty_like(weight[:, :1]).normal_(std=label_std)
    return torch.cat([weight, label], dim=1)


def widen_stem(backbone: nn.Module, label_std: float) -> str:
    """Give the convolution that reads the image one more input channel, last; return its path.

    Raises:
        ConfigError: When the first convolution does not read three channels at once.
    """
    convolutions = (item for item in backbone.named_modules() if isinstance(item[1], nn.Conv2d))
    path, stem = next(convolutions, ('', None))
    if stem is None or stem.in_channels != IMAGE_CHANNELS or stem.groups != 1:
        raise ConfigError(
            f'{type(backbone).__name__}: its first convolution does not read the {IMAGE_CHANNELS} channels of an '
            'image, so it cannot be widened for a label map; take another backbone'
        )
    stem.in_channels += 1
    stem.weight = nn.Parameter(inflated(stem.weight.detach(), label_std))
    return path
