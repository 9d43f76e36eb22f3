"""What an instance segmentor's labels are: COCO annotations with scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from castkd.apis.predictor import Predictor
from castkd.datasets.pseudo_filter import FilterOptions, filter_instances
from castkd.datasets.pseudo_store import coco_content, instance_records
from castkd.errors import ConfigError
from castkd.evaluation.pseudo_quality import Reference


class InstanceLabels:
    """Makes the annotations of images.

    Args:
        predictor: The model.
        options: Which instances become labels.

    Attributes:
        options: What decides the labels, in plain types.
        unit: What :meth:`count` counts.
    """

    unit = 'instances'

    def __init__(self, predictor: Predictor, options: FilterOptions) -> None:
        self.options = asdict(options)
        self._filter = options
        self._predictor = predictor

    def record(self, name: str, sample: Any) -> dict[str, Any]:  # noqa: ANN401 - data samples
        """Return name, size and annotations of one image from its data sample.

        Raises:
            ConfigError: When the model predicts no masks, or a class without a name.
        """
        predicted = sample.get('pred_instances')
        if predicted is None or 'masks' not in predicted:
            raise ConfigError(
                'the model predicts no instance masks; pseudo-labels need an instance segmentor (for Mask2Former: '
                'model.test_cfg.instance_on=True)'
            )
        mask_scores = predicted.get('mask_scores', predicted.scores)
        kept, masks = filter_instances(
            predicted.scores, mask_scores, predicted.masks.bool(), self._filter
        )
        labels = predicted.labels[kept]
        self._predictor.check_named(labels)
        height, width = sample.metainfo['ori_shape'][:2]
        annotations = instance_records(masks, labels, predicted.scores[kept], mask_scores[kept])
        return {'file_name': name, 'width': width, 'height': height, 'annotations': annotations}

    def count(self, image: Mapping[str, Any]) -> int:
        """Return the number of instances of an image."""
        return len(image['annotations'])

    def content(
        self, images: Iterable[Mapping[str, Any]], info: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what the COCO file holds."""
        return coco_content(images, self._predictor.classes, info)

    def reference(self, path: str | Path, names: Sequence[str]) -> Reference:
        """Read the ground truth of the images ``names``."""
        return Reference(path, self._predictor.classes, names)

    def quality(self, images: Iterable[Mapping[str, Any]], truth: Reference) -> dict[str, Any]:
        """Return precision and recall."""
        return truth.quality(images)

    def nothing(self, summary: Mapping[str, Any]) -> str:
        """Return what to say when no image got a label, and where to look."""
        return (
            f'{summary["out"]}: not one of {summary["num_images"]} images got a pseudo-label; look at '
            f'score_thr={self._filter.score_thr} and at the AP of the model that labelled'
        )
