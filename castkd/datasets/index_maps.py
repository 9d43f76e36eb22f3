"""Reading maps of class indices, with errors that name the file and the cure."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from castkd.checks import check_number
from castkd.datasets.loading import read_bytes
from castkd.errors import DataError
from castkd.registry import TRANSFORMS
from castkd.semantic import IGNORE

_SHOWN_INDICES = 5
# What a file of another kind than one 8-bit number per pixel holds, by Pillow's mode.
_OTHER_KINDS = {
    '1': 'one bit per pixel',
    'LA': 'grey values with transparency',
    'RGB': 'colours (RGB)',
    'RGBA': 'colours (RGBA)',
    'I': 'more than 8 bits per pixel',
    'I;16': '16 bits per pixel',
    'F': 'floating-point values',
}


@TRANSFORMS.register_module()
class LoadSemanticAnnotations(BaseTransform):
    """mmseg's ``LoadAnnotations`` for maps of class indices, which refuses what would be read silently wrong.

    A file is a PNG with one 8-bit class index per pixel, 255 where there is no class. One that is missing or damaged,
    holds colours, has another size than its image or an index outside the classes ends in one line.

    Reads ``seg_map_path`` and ``ori_shape``, and, as mmseg's datasets give them, ``reduce_zero_label`` (index 0 becomes
    255, the others move down by one) and ``label_map`` (new index per old one), and, as
    :class:`~castkd.datasets.pseudo_maps.PseudoMapDataset` gives them, ``confidence_path`` and ``score_thr`` (255 where
    the probability is not above it). Sets ``gt_seg_map`` (H, W), uint8, and names it in ``seg_fields``.

    Args:
        num_classes: Number of classes after that, in [2, 255].
        palette: Whether a PNG with a palette is taken by the indices into it, as VOC 2012 stores its classes. Elsewhere
            such a file is refused: its colours may mean the classes.
        backend_args: Storage backend of mmengine; None means that the path tells.
    """

    def __init__(
        self, num_classes: int, palette: bool = False, backend_args: dict | None = None
    ) -> None:
        super().__init__()
        check_number(type(self).__name__, 'num_classes', num_classes, low=2, high=255, integer=True)
        self.num_classes = num_classes
        self.palette = palette
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Read the label map of ``results``.

        Raises:
            DataError: When the file cannot be read as an index map of the image.
        """
        path = results['seg_map_path']
        indices = self._read(path, results)
        labels = _renumbered(indices, results)
        self._check_indices(labels, indices, path)
        if 'confidence_path' in results:
            confidence = self._read(results['confidence_path'], results)
            labels[confidence <= 255 * results['score_thr']] = IGNORE
        results['gt_seg_map'] = labels
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def _read(self, path: str, results: Mapping) -> np.ndarray:
        """Return a map of one 8-bit number per pixel of the image."""
        content = read_bytes('label map', path, 'seg_map_suffix', self.backend_args)
        pixels = decode_index_map(content, path, self.palette)
        if pixels.shape != tuple(results['ori_shape'][:2]):
            height, width = results['ori_shape'][:2]
            raise DataError(
                f'label map {path!r} has {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), its image '
                f'{results.get("img_path")!r} has {height} x {width}; give the map of that image'
            )
        return pixels

    def _check_indices(self, labels: np.ndarray, indices: np.ndarray, path: str) -> None:
        wrong = (labels >= self.num_classes) & (labels != IGNORE)
        if not wrong.any():
            return
        found = np.unique(indices[wrong]).tolist()
        shown = ', '.join(map(str, found[:_SHOWN_INDICES]))
        more = ', ...' if len(found) > _SHOWN_INDICES else ''
        raise DataError(
            f'label map {path!r} has {int(wrong.sum())} pixels with indices outside the {self.num_classes} classes '
            f'({shown}{more}); allowed are 0 to {self.num_classes - 1}, and {IGNORE} where there is none; '
            'mend the map, or set classes and reduce_zero_label of the dataset'
        )

    def __repr__(self) -> str:
        """Return the options, as mm's transforms show theirs."""
        return f'{type(self).__name__}(num_classes={self.num_classes}, palette={self.palette})'


def _renumbered(indices: np.ndarray, results: Mapping) -> np.ndarray:
    """Return class indices as the dataset numbers them; 255 stays."""
    table = np.arange(256, dtype=np.uint8)
    if results.get('reduce_zero_label'):
        table = np.r_[IGNORE, np.arange(IGNORE - 1), IGNORE].astype(np.uint8)
    if results.get('label_map'):
        last = np.arange(256, dtype=np.uint8)
        for old, new in results['label_map'].items():
            last[old] = new
        table = last[table]
    return table[indices]


def decode_index_map(content: bytes, path: str, palette: bool = False) -> np.ndarray:
    """Decode the bytes of an index map.

    Args:
        content: Whole content of the file.
        path: Its name, for errors.
        palette: Whether a file with a palette is taken by its indices.

    Returns:
        Indices (H, W), uint8.

    Raises:
        DataError: When it is damaged, no image, or holds anything but one 8-bit index per pixel.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode = image.mode
            indices = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f'label map {path!r} is no whole image ({len(content)} bytes); make or fetch it again'
        ) from error
    if mode == 'P' and not palette:
        raise DataError(
            f'label map {path!r} is a PNG with a palette, an index map is expected; convert it, or, where its palette '
            'indices are the classes, set palette=True of LoadSemanticAnnotations'
        )
    if mode not in ('L', 'P'):
        raise DataError(
            f'label map {path!r} has {_OTHER_KINDS.get(mode, f"pixels of kind {mode}")}, an index map is expected: '
            'one 8-bit class index per pixel; convert it'
        )
    return indices
