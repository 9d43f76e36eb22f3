"""Cars, trucks, buses and trains of generated street scenes: profiles pulled to a width and seen in perspective.

A profile is drawn in shares of length (0 = rear, 1 = front) and height (0 = ground, 1 = roof).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from castkd.datasets.scenes.geometry import (
    Camera,
    Colour,
    Item,
    Shape,
    ellipse,
    random_colour,
    shade,
)

Place = tuple[float, float]
Points = Sequence[tuple[float, float]]
Corners = Sequence[Sequence[float]]

_GLASS = (52.0, 62.0, 74.0)
_TYRE = (26.0, 26.0, 28.0)
_PLATE = (214.0, 214.0, 208.0)
_HUB = (150.0, 152.0, 156.0)
_FOOTPRINT = ((0, 0, -1), (0, 0, 1), (1, 0, 1), (1, 0, -1))


@dataclass(frozen=True)
class Body:
    """A part of a vehicle with one paint.

    Attributes:
        profile: Outline from the rear bottom over the roof to the front bottom.
        glass: Indices of the outline's segments that are windows.
        windows: Polygons of the side windows.
    """

    profile: Points
    glass: tuple[int, ...] = ()
    windows: tuple[Points, ...] = ()


@dataclass(frozen=True)
class Model:
    """A kind of vehicle.

    Attributes:
        label: Cityscapes label name.
        length: Range in metres.
        width: Range in metres.
        height: Range in metres.
        bodies: Parts, rear to front.
        wheels: Positions of the axles in shares of the length.
        wheel: Radius of a wheel in metres; 0 for none to be seen.
        lamps: Height of the lamps in shares of the height.
        stripe: (low, high) of a coloured stripe along the side in shares of the height, or None.
    """

    label: str
    length: tuple[float, float]
    width: tuple[float, float]
    height: tuple[float, float]
    bodies: tuple[Body, ...]
    wheels: tuple[float, ...]
    wheel: float
    lamps: float
    stripe: tuple[float, float] | None = None


def _window_row(
    start: float, end: float, count: int, low: float, high: float
) -> tuple[Points, ...]:
    """Return ``count`` equal windows side by side."""
    edges = np.linspace(start, end, count + 1)
    gap = 0.08 * (edges[1] - edges[0])
    return tuple(
        ((left + gap, low), (left + gap, high), (right - gap, high), (right - gap, low))
        for left, right in pairwise(edges)
    )


SEDAN = Body(
    (
        *((0, 0.2), (0, 0.58), (0.03, 0.66), (0.17, 0.69), (0.29, 1)),
        *((0.58, 1), (0.74, 0.65), (0.97, 0.54), (1, 0.42), (1, 0.2)),
    ),
    glass=(3, 5),
    windows=(
        ((0.22, 0.69), (0.31, 0.95), (0.43, 0.95), (0.43, 0.67)),
        ((0.455, 0.67), (0.455, 0.95), (0.57, 0.95), (0.69, 0.66)),
    ),
)
HATCHBACK = Body(
    (
        *((0, 0.2), (0, 0.58), (0.02, 0.64), (0.1, 1), (0.58, 1)),
        *((0.76, 0.63), (0.97, 0.52), (1, 0.42), (1, 0.2)),
    ),
    glass=(2, 4),
    windows=(
        ((0.08, 0.67), (0.14, 0.94), (0.38, 0.94), (0.38, 0.65)),
        ((0.41, 0.65), (0.41, 0.94), (0.57, 0.94), (0.7, 0.64)),
    ),
)
VAN = Body(
    ((0, 0.16), (0, 0.52), (0.03, 1), (0.68, 1), (0.84, 0.6), (0.98, 0.5), (1, 0.4), (1, 0.16)),
    glass=(1, 3),
    windows=(
        ((0.06, 0.62), (0.07, 0.9), (0.34, 0.9), (0.34, 0.62)),
        ((0.37, 0.62), (0.37, 0.9), (0.52, 0.9), (0.52, 0.62)),
        ((0.55, 0.62), (0.55, 0.9), (0.67, 0.9), (0.78, 0.62)),
    ),
)
COACH = Body(
    ((0, 0.1), (0, 0.4), (0, 0.94), (0.015, 1), (0.985, 1), (1, 0.94), (1, 0.36), (1, 0.1)),
    glass=(1, 5),
    windows=_window_row(0.02, 0.98, 7, 0.46, 0.86),
)
TRAM = Body(
    ((0, 0.08), (0, 0.4), (0.035, 0.9), (0.06, 1), (0.94, 1), (0.965, 0.9), (1, 0.4), (1, 0.08)),
    glass=(1, 5),
    windows=_window_row(0.05, 0.95, 10, 0.44, 0.82),
)
CARGO = Body(((0, 0.26), (0, 1), (0.7, 1), (0.7, 0.26)))
CAB = Body(
    ((0.73, 0.12), (0.73, 0.84), (0.93, 0.84), (1, 0.5), (1, 0.12)),
    glass=(2,),
    windows=(((0.78, 0.52), (0.78, 0.78), (0.91, 0.78), (0.96, 0.52)),),
)

_CAR_WHEELS = (0.19, 0.81)
CARS = (
    Model('car', (4.3, 4.8), (1.7, 1.85), (1.4, 1.5), (SEDAN,), _CAR_WHEELS, 0.33, 0.5),
    Model('car', (3.6, 4.2), (1.65, 1.8), (1.45, 1.6), (HATCHBACK,), _CAR_WHEELS, 0.31, 0.5),
    Model('car', (4.5, 5.2), (1.8, 2.0), (1.75, 2.1), (VAN,), _CAR_WHEELS, 0.36, 0.45),
)
TRUCK = Model(
    'truck', (6.5, 9.0), (2.3, 2.5), (2.9, 3.6), (CARGO, CAB), (0.14, 0.26, 0.85), 0.48, 0.3
)
BUS = Model(
    'bus', (9.5, 12.0), (2.4, 2.55), (2.9, 3.2), (COACH,), (0.22, 0.76), 0.48, 0.2, (0.1, 0.24)
)
TRAIN = Model(
    'train', (14.0, 20.0), (2.3, 2.5), (3.2, 3.6), (TRAM,), (0.2, 0.8), 0.0, 0.22, (0.22, 0.38)
)


def vehicle(
    model: Model,
    place: Place,
    yaw: float,
    camera: Camera,
    rng: np.random.Generator,
    lamps_on: bool,
) -> Item:
    """Return a vehicle as the camera sees it.

    Args:
        model: Its kind.
        place: (X, Z) of its middle in metres.
        yaw: Direction of travel in radians; 0 drives away, pi/2 to the right.
        camera: The camera.
        rng: Source of size and colours.
        lamps_on: Whether lamps shine.
    """
    size = [rng.uniform(*span) for span in (model.length, model.width, model.height)]
    frame = _Frame(place, yaw, size, camera)
    paints, stripe = _paints(model, rng)
    glass = shade(_GLASS, rng.uniform(0.7, 1.5))
    shapes = _tyres(model, frame)
    parts = zip(model.bodies, paints, strict=True)
    for body, paint in sorted(parts, key=lambda part: -frame.distance_of(part[0])):
        shapes += _walls(body, paint, glass, frame)
    shapes += _side_trim(model, stripe, frame) + _lamps(model, frame, lamps_on)
    footprint = frame.world(_FOOTPRINT)[:, ::2]
    return Item(model.label, float(footprint[:, 1].mean()), shapes, footprint, size[2])


class _Frame:
    """Turns (u, v, w), shares of length, height and half width, into the world and the image."""

    def __init__(self, place: Place, yaw: float, size: Sequence[float], camera: Camera) -> None:
        self.length, self.width, self.height = size
        self._camera = camera
        sin, cos = np.sin(yaw), np.cos(yaw)
        along = np.array([sin, 0.0, cos]) * self.length
        across = np.array([cos, 0.0, -sin]) * self.width / 2
        self._basis = np.stack([along, [0.0, self.height, 0.0], across])
        middle = np.array([place[0], 0.0, place[1]])
        self._origin = middle - along / 2
        offset = across @ middle / (self.width / 2)
        #: Side that the camera sees: +1, -1, or 0 for none.
        self.side = 0 if abs(offset) < self.width / 2 else -int(np.sign(offset))

    def world(self, points: Corners) -> np.ndarray:
        """Return world points (N, 3) of points (N, 3) of (u, v, w)."""
        return self._origin + np.asarray(points, dtype=float) @ self._basis

    def polygons(self, polygons: Sequence[Corners]) -> list[np.ndarray]:
        """Return image points (N, 2) of every polygon (N, 3) of (u, v, w)."""
        return self._camera.project_all([self.world(polygon) for polygon in polygons])

    def distance_of(self, body: Body) -> float:
        """Return the distance of a body's middle in metres."""
        return float(np.linalg.norm(self.world([(*np.mean(body.profile, axis=0), 0)])))

    def wheel(self, u: float, radius: float, side: float, share: float = 1.0) -> np.ndarray:
        """Return points (N, 3) of a circle about a wheel's axle, ``share`` times as large as the wheel."""
        points = np.full((16, 3), float(side))
        radii = (share * radius / self.length, share * radius / self.height)
        points[:, :2] = ellipse((u, radius / self.height), radii, 16)
        return points


def _paints(model: Model, rng: np.random.Generator) -> tuple[list[Colour], Colour]:
    """Return one paint per body, and the stripe's."""
    pale = random_colour(rng, (0.0, 0.2), (0.75, 0.95))
    paint = random_colour(rng, (0.45, 0.95), (0.35, 0.9))
    if model.label == 'car' and rng.random() < 0.55:
        grey = rng.choice([28, 70, 125, 170, 225])
        paint = shade((grey, grey, grey * 1.03), rng.uniform(0.9, 1.1))
    if model.label == 'truck':
        return [
            pale if rng.random() < 0.6 else random_colour(rng, (0.2, 0.7), (0.4, 0.8)),
            paint,
        ], paint
    return ([pale], paint) if model.label == 'train' else ([paint], pale)


def _walls(body: Body, paint: Colour, glass: Colour, frame: _Frame) -> list[Shape]:
    """Return the faces of a body that the camera sees: those along the outline, then the side with its windows."""
    outline = np.array(body.profile)
    left, right = frame.polygons([_at(outline, -1), _at(outline, 1)])
    shapes = []
    for index, (along, up) in enumerate(np.abs(np.diff(outline, axis=0))):
        face = np.array([left[index], right[index], right[index + 1], left[index + 1]])
        if not _is_front(face):
            continue
        flat = along * frame.length > up * frame.height
        shapes.append(Shape(face, shade(paint, 1.2 if flat else 0.84)))
        if index in body.glass:
            shapes.append(Shape(face.mean(0) + 0.86 * (face - face.mean(0)), shade(glass, 1.15)))
    if not frame.side:
        return shapes
    shapes.append(Shape(left if frame.side < 0 else right, paint))
    (start, low), (end, _) = outline[0], outline[-1]
    sill = [(start, low), (start, low + 0.07), (end, low + 0.07), (end, low)]
    flat = [_at(np.array(points), frame.side) for points in (sill, *body.windows)]
    colours = [shade(paint, 0.6)] + [glass] * len(body.windows)
    return shapes + list(map(Shape, frame.polygons(flat), colours))


def _at(points: np.ndarray, side: float) -> np.ndarray:
    """Return points (N, 3) of one side from points (N, 2) of (u, v)."""
    return np.column_stack([points, np.full(len(points), float(side))])


def _is_front(face: np.ndarray) -> bool:
    """Return whether the outside of a quadrilateral (4, 2) is seen: from there its corners run counter-clockwise."""
    (x0, y0), (x1, y1) = face[2] - face[0], face[3] - face[1]
    return bool(x0 * y1 - y0 * x1 < 0)


def _tyres(model: Model, frame: _Frame) -> list[Shape]:
    """Return all wheels as short cylinders; the body hides most of the far ones."""
    cylinders = [
        np.concatenate(
            [frame.wheel(u, model.wheel, 0.97 * side), frame.wheel(u, model.wheel, 0.72 * side)]
        )
        for u in (model.wheels if model.wheel else ())
        for side in (-1.0, 1.0)
    ]
    if not cylinders:
        return []
    outlines = [cv2.convexHull(np.float32(points))[:, 0] for points in frame.polygons(cylinders)]
    return [Shape(outline, _TYRE) for outline in outlines]


def _side_trim(model: Model, stripe: Colour, frame: _Frame) -> list[Shape]:
    """Return what is on the side that the camera sees: a stripe, and the outer faces of the wheels."""
    if not frame.side:
        return []
    polygons, colours = [], []
    if model.stripe:
        low, high = model.stripe
        polygons.append([(u, v, frame.side) for u, v in ((0, low), (0, high), (1, high), (1, low))])
        colours.append(stripe)
    for u in model.wheels if model.wheel else ():
        polygons += [frame.wheel(u, model.wheel, frame.side, share) for share in (1.0, 0.58)]
        colours += [_TYRE, _HUB]
    return list(map(Shape, frame.polygons(polygons), colours))


def _lamps(model: Model, frame: _Frame, on: bool) -> list[Shape]:
    """Return lamps and plate of the end that the camera sees."""
    low, high = model.lamps - 0.045, model.lamps + 0.045
    rear, front = ((255, 60, 40), (255, 250, 215)) if on else ((165, 28, 28), (208, 208, 198))
    for u, turn, colour in ((0, 1, rear), (1, -1, front)):
        ends = [(u, 0, -turn), (u, 0, turn), (u, 1, turn), (u, 1, -turn)]
        lamps = [
            [(u, low, left), (u, low, right), (u, high, right), (u, high, left)]
            for left, right in ((-0.94, -0.6), (0.6, 0.94), (-0.27, 0.27))
        ]
        wall, *polygons = frame.polygons([ends, *lamps])
        if _is_front(wall):
            return list(map(Shape, polygons, (colour, colour, _PLATE)))
    return []
