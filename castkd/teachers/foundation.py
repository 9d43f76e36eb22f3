"""A vision foundation model as a teacher: boxes from class names, and a mask for every box.

The teacher of CAST (arXiv 2505.21904): Grounding DINO and SAM 2, chained.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmengine.structures import InstanceData
from torch import Tensor, nn

from castkd.checks import check_choice
from castkd.registry import MODELS, build_model
from castkd.teachers.base import Teacher

_PRECISIONS = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@MODELS.register_module()
class FoundationSegmentor(BaseDetector):
    """An mmdet detector made of a detector of boxes and a segmenter of what is in them.

    It predicts, is adapted (the losses of both parts), and is a teacher like any other instance segmentor.

    Args:
        detector: Config of :class:`~castkd.teachers.grounding_dino.GroundingDINO`, or of a part with its methods.
        segmenter: Config of :class:`~castkd.teachers.sam2.SAM2`, or of a part with its methods.
        ranking: What ``mask_scores`` are, by which mmdet's evaluators rank masks: the ``product`` of the box's score
            and the mask's quality, or the ``quality`` alone, as in the paper's code.
        amp: Precision of predictions: ``float16`` or ``bfloat16``; None leaves it to the caller.
        data_preprocessor: As of every mmdet detector; both parts want images normalised as ImageNet's.
        init_cfg: As of every mm model.

    Raises:
        ConfigError: When an option is wrong.
    """

    def __init__(
        self,
        detector: dict | nn.Module,
        segmenter: dict | nn.Module,
        ranking: str = 'product',
        amp: str | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        check_choice('FoundationSegmentor', 'ranking', ranking, ('product', 'quality'))
        if amp is not None:
            check_choice('FoundationSegmentor', 'amp', amp, _PRECISIONS)
        self.detector = build_model(detector)
        self.segmenter = build_model(segmenter)
        self.ranking = ranking
        self.amp = amp

    def extract_feat(self, batch_inputs: Tensor) -> list[Tensor]:
        """Return the maps of the detector's image backbone, fine to coarse."""
        return self.detector.image_features(batch_inputs)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: list | None = None) -> tuple:
        """Return class logits and boxes of the detector's queries, see its ``forward``."""
        return self.detector(batch_inputs, batch_data_samples)[:2]

    def loss(self, batch_inputs: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        """Return the losses of both parts."""
        everything = list(range(len(batch_data_samples)))
        return self.loss_of(batch_inputs, batch_data_samples, everything)

    def loss_of(self, inputs: Tensor, samples: list, keep: list[int]) -> dict[str, Tensor]:
        """Return the losses over some images of a batch; the detector runs on all of them.

        Args:
            inputs: Normalised images (B, 3, H, W).
            samples: Data samples with ``gt_instances``.
            keep: Indices of the images to learn from, at least one.
        """
        *_, grounded = self.detector(inputs, samples)
        chosen = [samples[index] for index in keep]
        return {
            **self.detector.losses(grounded, inputs, samples, keep),
            **self.segmenter.losses(inputs[keep], chosen),
        }

    @torch.no_grad()
    def predict(self, batch_inputs: Tensor, batch_data_samples: list, rescale: bool = True) -> list:
        """Return data samples with ``pred_instances``, best score first.

        Args:
            batch_inputs: Normalised images (B, 3, H, W).
            batch_data_samples: Their data samples.
            rescale: Whether boxes and masks are in pixels of the image file, not of the network's input.

        Returns:
            Per image ``labels``, ``scores`` (of the detector), ``bboxes``, ``masks`` (n, h, w) bool, ``mask_quality``
            (of the segmenter) and ``mask_scores`` (see ``ranking``); n is 0 for an image without a box.
        """
        with self._precision(batch_inputs):
            found = self.detector.predict(batch_inputs, batch_data_samples)
            results = [
                self._with_masks(image, sample, instances, rescale)
                for image, sample, instances in zip(
                    batch_inputs, batch_data_samples, found, strict=True
                )
            ]
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _precision(self, inputs: Tensor) -> AbstractContextManager:
        if self.amp is None:
            return nullcontext()
        return torch.autocast(inputs.device.type, dtype=_PRECISIONS[self.amp])

    def _with_masks(
        self,
        image: Tensor,
        sample: Any,  # noqa: ANN401 - data samples
        instances: InstanceData,
        rescale: bool,
    ) -> InstanceData:
        height, width = sample.metainfo['img_shape'][:2]
        shape = tuple(sample.metainfo['ori_shape'][:2]) if rescale else (height, width)
        instances.masks, quality = self.segmenter.predict(
            image[:, :height, :width], instances.bboxes, shape
        )
        instances.mask_quality = quality
        product = self.ranking == 'product'
        instances.mask_scores = instances.scores * quality if product else quality
        scale = instances.bboxes.new_tensor([shape[1] / width, shape[0] / height] * 2)
        instances.bboxes = instances.bboxes * scale
        return instances


@MODELS.register_module()
class FoundationTeacher(Teacher):
    """A foundation model with the weights its config names (hub or folder), frozen: the teacher before any adaptation.

    An adapted one is a :class:`~castkd.teachers.frozen.FrozenTeacher` with a checkpoint.

    Args:
        model: Config of the network.
        class_mapping: See :class:`~castkd.teachers.base.Teacher`.
        student: The distiller's student; not used here.
    """

    def __init__(
        self,
        model: dict | nn.Module,
        *,
        class_mapping: dict[str, str | None] | None = None,
        student: nn.Module | None = None,
    ) -> None:
        del student
        network = build_model(model)
        super().__init__(network, classes=network.detector.classes, class_mapping=class_mapping)

    def load(self) -> None:
        """Load the weights that the config names.

        Raises:
            CheckpointError: When they are not there.
        """
        self.model.init_weights()
        self.freeze()

    def provenance(self) -> dict:
        """Return where the weights come from."""
        parts = {'detector': self.model.detector, 'segmenter': self.model.segmenter}
        found = {name: getattr(part, 'weights', None) for name, part in parts.items()}
        return {name: source for name, source in found.items() if source}
