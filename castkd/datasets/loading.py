"""Reading images, with errors that name the file and the cure."""

from __future__ import annotations

import io

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image

from castkd.errors import DataError
from castkd.registry import TRANSFORMS

# Per format: how a file starts and how a whole one ends.
MARKERS = ((b'\xff\xd8', b'\xff\xd9'), (b'\x89PNG\r\n\x1a\n', b'IEND\xaeB`\x82'))


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` for 8-bit images, which refuses what OpenCV would read silently wrong.

    Grey images become three equal channels and an alpha channel is dropped. A file that is missing,
    truncated, no image, of another depth than 8 bits or of another size than its annotations ends in
    one line.

    Reads ``img_path`` and, where annotations give them, ``height`` and ``width``; sets ``img`` (H, W, 3)
    BGR in [0, 255], ``img_shape``, ``ori_shape`` and ``homography_matrix`` = identity. mmdet's transforms
    carry that record on, but do not begin one for an image that they leave as it is (a flip that was not
    drawn).

    Args:
        to_float32: Whether the image becomes float32 instead of uint8, with the same values.
        backend_args: Storage backend of mmengine; None means that the path tells.
    """

    def __init__(self, to_float32: bool = False, backend_args: dict | None = None) -> None:
        super().__init__(to_float32=to_float32, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        """Read the image of ``results``.

        Raises:
            DataError: When the file cannot be read as an 8-bit image, or has another size than its annotations.
        """
        path = results['img_path']
        content = read_bytes('image', path, 'the annotation file', self.backend_args)
        image = decode_image(content, path)
        height, width = image.shape[:2]
        annotated = results.get('height', height), results.get('width', width)
        if annotated != (height, width):
            raise DataError(
                f'image {path!r} has {height} x {width} pixels (height x width), its annotations are for '
                f'{annotated[0]} x {annotated[1]}; give the image that was annotated, or mend the annotation file'
            )
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        results['homography_matrix'] = np.eye(3, dtype=np.float32)
        return results


def read_bytes(kind: str, path: str, source: str, backend_args: dict | None) -> bytes:
    """Read a whole file.

    Args:
        kind: What the file is, for errors.
        path: Where it is.
        source: What else named it, beside ``data_root`` and ``data_prefix``, for errors.
        backend_args: Storage backend of mmengine; None means that the path tells.

    Raises:
        DataError: When it is missing or cannot be read.
    """
    try:
        return get(path, backend_args=backend_args)
    except FileNotFoundError as error:
        raise DataError(
            f'{kind} {path!r} does not exist; check data_root, data_prefix and {source}'
        ) from error
    except OSError as error:
        raise DataError(f'{kind} {path!r} cannot be read ({error.strerror or error})') from error


def decode_image(content: bytes, path: str) -> np.ndarray:
    """Decode the bytes of an image file.

    Args:
        content: Whole content of the file.
        path: Its name, for errors.

    Returns:
        Image (H, W, 3), uint8, BGR.

    Raises:
        DataError: When it is empty, truncated, no image, or has another depth than 8 bits.
    """
    if not content:
        raise DataError(f'image {path!r} is an empty file; fetch it again or leave it out')
    whole = _is_whole(content)
    # With ANYDEPTH the depth is kept and can be seen; without, 16 bits would be cut silently.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags) if whole else None
    if image is None:
        problem = 'is no image that OpenCV can read' if whole else 'is truncated'
        raise DataError(
            f'image {path!r} {problem} ({len(content)} bytes); fetch it again, convert it or leave it out'
        )
    if image.dtype != np.uint8:
        raise DataError(
            f'image {path!r} has {8 * image.dtype.itemsize} bits per channel; convert it to 8 bits '
            'with a range of your choice, since cutting bits off would lose dark detail'
        )
    return image


def _is_whole(content: bytes) -> bool:
    """Tell a cut JPEG or PNG, of which OpenCV would return the upper part with a grey or black rest.

    The end marker settles nearly every file at no cost. Files with something else at their end are
    decoded by Pillow, which is strict.
    """
    for start, end in MARKERS:
        if content.startswith(start) and not content.rstrip(b'\x00').endswith(end):
            try:
                with Image.open(io.BytesIO(content)) as image:
                    image.load()
            except (OSError, SyntaxError, ValueError):
                return False
            return end in content
    return True
