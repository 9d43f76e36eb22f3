"""Camera, shapes and canvas of generated street scenes.

World coordinates are metres: X to the right, Y up, Z ahead of the camera; the ground is Y = 0. Image coordinates are
pixels, with (0, 0) at the top left corner of the top left pixel. Colours are RGB in [0, 255].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Colour = Sequence[float]

_SHIFT = 4
_NEAREST = 0.5


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera above the ground.

    Attributes:
        focal: Focal length in pixels.
        centre: Column of the vanishing point in pixels.
        horizon: Row of the horizon in pixels.
        height: Height above the ground in metres.
    """

    focal: float
    centre: float
    horizon: float
    height: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return image points (N, 2) of world points (N, 3); points behind the camera are drawn up to it."""
        scale = self.focal / np.maximum(points[:, 2], _NEAREST)
        image = np.empty((len(points), 2))
        image[:, 0] = self.centre + scale * points[:, 0]
        image[:, 1] = self.horizon + scale * (self.height - points[:, 1])
        return image

    def project_all(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return image points (N, 2) of every polygon (N, 3) of a list."""
        image = self.project(np.concatenate(polygons))
        ends = np.cumsum([len(polygon) for polygon in polygons])
        return [
            image[end - len(polygon) : end] for polygon, end in zip(polygons, ends, strict=True)
        ]

    def ground(self, points: np.ndarray) -> np.ndarray:
        """Return image points (N, 2) of ground points (N, 2) given as (X, Z)."""
        world = np.zeros((len(points), 3))
        world[:, ::2] = points
        return self.project(world)

    def patch(self, left: float, right: float, near: float, far: float) -> np.ndarray:
        """Return image points (4, 2) of a rectangle on the ground, in metres."""
        a, b = self.focal / max(near, _NEAREST), self.focal / max(far, _NEAREST)
        bottom, top = self.horizon + a * self.height, self.horizon + b * self.height
        return np.array(
            [
                (self.centre + a * left, bottom),
                (self.centre + b * left, top),
                (self.centre + b * right, top),
                (self.centre + a * right, bottom),
            ]
        )

    def depth_at(self, row: float) -> float:
        """Return the distance in metres at which the ground meets an image row below the horizon."""
        return self.focal * self.height / max(row - self.horizon, 1e-3)


@dataclass(frozen=True)
class Shape:
    """A filled polygon.

    Attributes:
        points: Corners in image coordinates, (N, 2).
        colour: RGB.
        opacity: Opacity of the paint in [0, 1]. The polygon belongs to the mask whatever its opacity.
    """

    points: np.ndarray
    colour: Colour
    opacity: float = 1.0


@dataclass
class Item:
    """Something that stands in the scene.

    Attributes:
        label: Cityscapes label name.
        depth: Distance in metres that decides what hides what.
        shapes: Polygons in drawing order.
        footprint: Where it touches the ground, (N, 2) of (X, Z) in metres; None for no shadow.
        height: Height in metres; how long its shadow is.
    """

    label: str
    depth: float
    shapes: list[Shape]
    footprint: np.ndarray | None = None
    height: float = 0.0


class Canvas:
    """An image and the map of what is where.

    Args:
        size: (height, width) in pixels.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        owner: (H, W) int32, index of the item that covers the pixel.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.image = np.zeros((*size, 3), dtype=np.uint8)
        self.owner = np.zeros(size, dtype=np.int32)

    def fill(self, points: np.ndarray, colour: Colour, owner: int | None = None) -> None:
        """Fill a polygon with one colour, without texture."""
        corners = [_fixed(points)]
        cv2.fillPoly(self.image, corners, _colour(colour), cv2.LINE_AA, _SHIFT)
        if owner is not None:
            cv2.fillPoly(self.owner, corners, owner, cv2.LINE_8, _SHIFT)

    def paste(self, texture: np.ndarray, corners: np.ndarray, owner: int) -> None:
        """Paste a texture onto a quadrilateral.

        Args:
            texture: (h, w, 3) uint8, RGB.
            corners: (4, 2), where the texture's top left, top right, bottom right and bottom left corners go.
            owner: Index to write into :attr:`owner`.
        """
        box = self._box(corners)
        if box is None:
            return
        left, top, right, bottom = box
        height, width = texture.shape[:2]
        size = (right - left, bottom - top)
        corners = corners - [left, top]
        source = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
        matrix = cv2.getPerspectiveTransform(source, np.float32(corners))
        patch = cv2.warpPerspective(
            texture, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
        )
        mask = np.zeros(patch.shape[:2], dtype=np.uint8)
        cv2.fillConvexPoly(mask, _fixed(corners), 1, cv2.LINE_8, _SHIFT)
        cv2.copyTo(patch, mask, self.image[top:bottom, left:right])
        self.owner[top:bottom, left:right][mask.astype(bool)] = owner

    def draw(
        self,
        shapes: Sequence[Shape],
        owner: int,
        haze: tuple[float, Colour] = (0.0, (0, 0, 0)),
        grain: np.random.Generator | None = None,
    ) -> None:
        """Draw polygons with smooth edges; a pixel belongs to them when they cover at least half of it.

        Args:
            shapes: Polygons, later ones on top.
            owner: Index to write into :attr:`owner`.
            haze: Share of the haze in [0, 1] and its colour.
            grain: Source of a fine texture, or None for flat paint.
        """
        points = np.concatenate([shape.points for shape in shapes])
        box = self._box(points)
        if box is None:
            return
        left, top, right, bottom = box
        paint, cover = _render(shapes, points, box)
        colours, opacity = paint[..., :3], paint[..., 3:] / 255
        share, colour = haze
        colours *= np.linspace(1.07, 0.9, bottom - top, dtype=np.float32)[:, None, None] * (
            1 - share
        )
        tint = share * np.float32(colour)
        if grain is not None:
            texture = grain.standard_normal((bottom - top, right - left, 1), dtype=np.float32)
            tint = tint + 3.5 * texture
        region = self.image[top:bottom, left:right]
        region[:] = np.clip(region * (1 - opacity) + colours + tint * opacity, 0, 255)
        self.owner[top:bottom, left:right][cover >= 128] = owner

    def _box(self, points: np.ndarray) -> tuple[int, int, int, int] | None:
        """Return (left, top, right, bottom) of the visible part of the points' box, or None."""
        height, width = self.size
        left, top = np.floor(points.min(0)).astype(int) - 1
        right, bottom = np.ceil(points.max(0)).astype(int) + 1
        left, top = max(left, 0), max(top, 0)
        right, bottom = min(right, width), min(bottom, height)
        return (left, top, right, bottom) if left < right and top < bottom else None


def _render(
    shapes: Sequence[Shape], points: np.ndarray, box: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return premultiplied RGBA (h, w, 4) float32 and coverage (h, w) uint8 inside a box."""
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    factor = 4 if max(size) < 40 else 2
    paint = np.zeros((size[1] * factor, size[0] * factor, 4), dtype=np.uint8)
    cover = np.zeros(paint.shape[:2], dtype=np.uint8)
    points = _fixed((points - [left, top]) * factor)
    start = 0
    for shape in shapes:
        corners = [points[start : start + len(shape.points)]]
        start += len(shape.points)
        premultiplied = [value * shape.opacity for value in (*_colour(shape.colour), 255.0)]
        cv2.fillPoly(paint, corners, premultiplied, cv2.LINE_8, _SHIFT)
        cv2.fillPoly(cover, corners, 255, cv2.LINE_8, _SHIFT)
    paint = cv2.resize(paint, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 4)
    cover = cv2.resize(cover, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0])
    return paint.astype(np.float32), cover


def _fixed(points: np.ndarray) -> np.ndarray:
    """Return pixel coordinates as OpenCV's fixed-point numbers, whose pixel centres lie at whole numbers."""
    bounded = np.clip(points - 0.5, -8000, 8000)
    return np.round(bounded * (1 << _SHIFT)).astype(np.int32)


def _colour(colour: Colour) -> tuple[float, float, float]:
    red, green, blue = colour
    return (
        min(max(float(red), 0.0), 255.0),
        min(max(float(green), 0.0), 255.0),
        min(max(float(blue), 0.0), 255.0),
    )


def shade(colour: Colour, factor: float) -> tuple[float, float, float]:
    """Return a colour made darker (factor below 1) or lighter."""
    return _colour([value * factor for value in colour])


def random_colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> tuple[float, float, float]:
    """Return a colour of any hue, with saturation and value (both in [0, 1]) from the given ranges."""
    hue, s, v = rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)
    pixel = cv2.cvtColor(np.float32([[[hue, s, v]]]), cv2.COLOR_HSV2RGB)[0, 0] * 255
    return _colour(pixel)


def ellipse(centre: Sequence[float], radii: Sequence[float], corners: int = 16) -> np.ndarray:
    """Return the corners (N, 2) of a polygon that stands for an ellipse."""
    return _circle(corners) * radii + centre


@lru_cache
def _circle(corners: int) -> np.ndarray:
    angles = np.arange(corners) * (2 * np.pi / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def limb(
    start: Sequence[float], end: Sequence[float], width: float, taper: float = 1.0
) -> np.ndarray:
    """Return the corners (4, 2) of a bar from ``start`` to ``end``, ``taper`` times as wide at its end."""
    (x0, y0), (x1, y1) = start, end
    half = width / 2 / max(math.hypot(x1 - x0, y1 - y0), 1e-9)
    dx, dy = (y0 - y1) * half, (x1 - x0) * half
    tx, ty = dx * taper, dy * taper
    return np.array(
        [(x0 + dx, y0 + dy), (x1 + tx, y1 + ty), (x1 - tx, y1 - ty), (x0 - dx, y0 - dy)]
    )
