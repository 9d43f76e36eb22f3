"""How good stored pseudo-labels are, where a ground truth exists. For looking only, never for making labels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from castkd.checks import check_file
from castkd.errors import DataError, in_words, near_names
from castkd.evaluation.matching import PrecisionRecall


class Reference:
    """Ground truth of the images that pseudo-labels are made for.

    Args:
        path: COCO annotation file; its images are found by file name and its categories by name.
        classes: Names of the classes of the pseudo-labels.
        names: File names of the images with pseudo-labels.

    Raises:
        DataError: When the file is missing, damaged, lacks a class, or has none of the images.
    """

    def __init__(self, path: str | Path, classes: Sequence[str], names: Iterable[str]) -> None:
        self.path = check_file('reference', 'annotation file', path)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco = COCO(str(self.path))
            self._images = {image['file_name']: image['id'] for image in self._coco.imgs.values()}
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise DataError(
                f'reference {str(self.path)!r} is no COCO annotation file ({in_words(error)})'
            ) from error
        known = {category['name']: category['id'] for category in self._coco.cats.values()}
        for name in classes:
            if name not in known:
                raise DataError(
                    f'reference {str(self.path)!r} has no category {name!r}; {near_names(name, known)}'
                )
        if not self._images.keys() & set(names):
            raise DataError(
                f'reference {str(self.path)!r} has none of the images; its file names must be relative to the image '
                'folder'
            )
        self._labels = {known[name]: index for index, name in enumerate(classes, start=1)}

    def quality(self, images: Iterable[Mapping[str, Any]], iou_thr: float = 0.5) -> dict:
        """Return precision and recall of pseudo-labels.

        Args:
            images: Per image ``file_name`` and ``annotations``, as stored in a pseudo-label file.
            iou_thr: Smallest mask overlap of a match, in (0, 1].

        Returns:
            :meth:`PrecisionRecall.compute` over the images that the reference has, with ``images``, their number.
        """
        numbers = PrecisionRecall(iou_thr)
        count = 0
        for image in images:
            image_id = self._images.get(image['file_name'])
            if image_id is not None:
                count += 1
                self._update(numbers, image['annotations'], image_id)
        return {'images': count, 'iou_thr': iou_thr, **numbers.compute()}

    def _update(self, numbers: PrecisionRecall, labels: list[dict], image_id: int) -> None:
        truths = [
            truth
            for truth in self._coco.imgToAnns[image_id]
            if truth['category_id'] in self._labels
        ]
        numbers.update(
            [label['segmentation'] for label in labels],
            [label['score'] for label in labels],
            [label['category_id'] for label in labels],
            [self._coco.annToRLE(truth) for truth in truths],
            [self._labels[truth['category_id']] for truth in truths],
            [truth.get('iscrowd', 0) for truth in truths],
        )
