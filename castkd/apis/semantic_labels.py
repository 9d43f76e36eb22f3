"""What a segmentor's labels are: an index map and a confidence map per image, and a JSON file that lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.registry import DATASETS, TRANSFORMS
from PIL import Image

from castkd.apis.predictor import Predictor, reads_annotations
from castkd.apis.student import building, prediction_dataset
from castkd.checks import check_folder, check_number
from castkd.datasets.pseudo_maps import map_files, maps_content
from castkd.errors import ConfigError, DataError
from castkd.evaluation.map_overlap import MapOverlap
from castkd.files import write_file
from castkd.semantic import IGNORE, most_likely


class SemanticLabels:
    """Makes and stores the label maps of images.

    Args:
        predictor: The model.
        out: The JSON file to write.
        names: Images to label, relative to their folder.
        score_thr: Pixels need a probability above it, in [0, 1].

    Attributes:
        options: What decides the labels, in plain types.
        unit: What :meth:`count` counts.
    """

    unit = 'images with labels'

    def __init__(
        self, predictor: Predictor, out: str | Path, names: Sequence[str], score_thr: float
    ) -> None:
        check_number('generate_pseudo_labels', 'score_thr', score_thr, low=0, high=1)
        self.options = {'score_thr': score_thr}
        self._predictor = predictor
        self._classes = predictor.classes
        self._folder = Path(out).parent
        self._files = map_files(out, names)

    def record(self, name: str, sample: Any) -> dict[str, Any]:  # noqa: ANN401 - data samples
        """Write the maps of one image and return its entry of the JSON file.

        Raises:
            ConfigError: When the model predicts a class without a name, or has one output only.
            DataError: When a map cannot be written.
        """
        labels, scores = most_likely(sample.seg_logits.data)
        self._predictor.check_named(labels)
        labels = labels.masked_fill(scores <= self.options['score_thr'], IGNORE)
        indices = labels.cpu().numpy().astype(np.uint8)
        confidence = (scores * 255).round().cpu().numpy().astype(np.uint8)
        label_file, confidence_file = self._files[name]
        self._write(confidence_file, confidence)
        content = self._write(label_file, indices)
        height, width = indices.shape
        counts = np.bincount(indices[indices != IGNORE], minlength=len(self._classes))
        return {
            'file_name': name,
            'width': width,
            'height': height,
            'labels': label_file,
            'confidence': confidence_file,
            'labels_sha256': hashlib.sha256(content).hexdigest(),
            'pixels': counts.tolist(),
        }

    def _write(self, file: str, pixels: np.ndarray) -> bytes:
        content = cv2.imencode('.png', pixels)[1].tobytes()
        write_file(self._folder / file, content)
        return content

    def count(self, image: Mapping[str, Any]) -> int:
        """Return 1 for an image with any label."""
        return int(any(image['pixels']))

    def content(
        self, images: Iterable[Mapping[str, Any]], info: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what the JSON file holds."""
        return maps_content(images, self._classes, info)

    def reference(self, path: str | Path, names: Sequence[str]) -> MapReference:
        """Read the ground truth of the images ``names``."""
        return MapReference(path, self._predictor, names)

    def quality(self, images: Iterable[Mapping[str, Any]], truth: MapReference) -> dict[str, Any]:
        """Return how far the labels agree with the truth."""
        return truth.quality(images, self)

    def nothing(self, summary: Mapping[str, Any]) -> str:
        """Return what to say when no image got a label, and where to look."""
        return (
            f'{summary["out"]}: not one pixel of {summary["num_images"]} images got a pseudo-label; look at '
            f'score_thr={self.options["score_thr"]} and at the mIoU of the model that labelled'
        )

    def stored(self, image: Mapping[str, Any]) -> np.ndarray:
        """Return the label map of an image as it was written."""
        return np.asarray(Image.open(self._folder / image['labels']))


class MapReference:
    """Ground truth of the images that label maps are made for, named and stored as those of the config's test data.

    Args:
        folder: Folder of label maps.
        predictor: The model, for its test data set and pipeline.
        names: Images to label, relative to their folder.

    Raises:
        ConfigError: When the test data set has no label maps.
        DataError: When the folder has no map of any image.
    """

    def __init__(self, folder: str | Path, predictor: Predictor, names: Sequence[str]) -> None:
        self._folder = check_folder('reference', 'folder of label maps', folder)
        self._classes = predictor.classes
        config = predictor.config
        dataset = prediction_dataset(config)
        loaders = [step for step in dataset.pipeline if reads_annotations(step)]
        with building(config, 'test_dataloader.dataset'):
            self._dataset = DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})
            if not loaders or not hasattr(self._dataset, 'seg_map_suffix'):
                raise ConfigError(
                    'reference: test_dataloader.dataset has no label maps, so their names and form are not known; use '
                    'an mmseg data set with a loader of annotations'
                )
            self._load = TRANSFORMS.build(loaders[0])
        self._maps = {name: path for name in names if (path := self._path(name)).is_file()}
        if not self._maps:
            raise DataError(
                f'reference {str(folder)!r} has no label map of any image, for example not '
                f'{str(self._path(names[0]))!r}; give the folder that belongs to the images'
            )

    def _path(self, name: str) -> Path:
        return self._folder / (
            name.removesuffix(self._dataset.img_suffix) + self._dataset.seg_map_suffix
        )

    def quality(self, images: Iterable[Mapping[str, Any]], labels: SemanticLabels) -> dict:
        """Return how far the labels agree with the truth.

        Returns:
            :meth:`~castkd.evaluation.map_overlap.MapOverlap.compute` over the images that have a map, with ``images``,
            their number, and ``IoU`` by class name.
        """
        overlap, count = MapOverlap(len(self._classes)), 0
        for image in images:
            if image['file_name'] in self._maps:
                count += 1
                overlap.update(labels.stored(image), self._truth(image))
        numbers = overlap.compute()
        return {
            'images': count,
            **numbers,
            'IoU': dict(zip(self._classes, numbers['IoU'], strict=True)),
        }

    def _truth(self, image: Mapping[str, Any]) -> np.ndarray:
        shape = (image['height'], image['width'])
        results = {
            'img_path': image['file_name'],
            'seg_map_path': str(self._maps[image['file_name']]),
            'img_shape': shape,
            'ori_shape': shape,
            'reduce_zero_label': self._dataset.reduce_zero_label,
            'label_map': self._dataset.label_map,
            'seg_fields': [],
        }
        return self._load(results)['gt_seg_map']
