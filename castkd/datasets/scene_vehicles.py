"""Cars, trucks, buses and trains of generated street scenes: profiles pulled to a width and seen in perspective.

A profile is drawn in shares of length (0 = rear, 1 = front) and height (0 = ground, 1 = roof).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from castkd.datasets.scene_geometry import Camera, Colour, Item, Shape, ellipse, random_colour, shade

Points = Sequence[tuple[float, float]]

_GLASS = (52.0, 62.0, 74.0)
_TYRE = (26.0, 26.0, 28.0)


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


def _window_row(start: float, end: float, count: int, low: float, high: float) -> tuple[Points, ...]:
    """Return ``count`` equal windows side by side."""
    edges = np.linspace(start, end, count + 1)
    gap = 0.08 * (edges[1] - edges[0])
    return tuple(
        ((left + gap, low), (left + gap, high), (right - gap, high), (right - gap, low))
        for left, right in zip(edges[:-1], edges[1:], strict=True)
    )


SEDAN = Body(
    ((0, 0.2), (0, 0.58), (0.03, 0.66), (0.17, 0.69), (0.29, 1), (0.58, 1), (0.74, 0.65))
    + ((0.97, 0.54), (1, 0.42), (1, 0.2)),
    glass=(3, 5),
    windows=(
        ((0.22, 0.69), (0.31, 0.95), (0.43, 0.95), (0.43, 0.67)),
        ((0.455, 0.67), (0.455, 0.95), (0.57, 0.95), (0.69, 0.66)),
    ),
)
HATCHBACK = Body(
    ((0, 0.2), (0, 0.58), (0.02, 0.64), (0.1, 1), (0.58, 1), (0.76, 0.63), (0.97, 0.52))
    + ((1, 0.42), (1, 0.2)),
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
    Model('car', (4.3, 4.8), (1.7, 1.85), (1.4, 1.5), (SEDAN,), _CAR_WHEELS, 0.33, 0.55),
    Model('car', (3.6, 4.2), (1.65, 1.8), (1.45, 1.6), (HATCHBACK,), _CAR_WHEELS, 0.31, 0.52),
    Model('car', (4.5, 5.2), (1.8, 2.0), (1.75, 2.1), (VAN,), _CAR_WHEELS, 0.36, 0.45),
)
TRUCK = Model(
    'truck', (6.5, 9.0), (2.3, 2.5), (2.9, 3.6), (CARGO, CAB), (0.14, 0.26, 0.85), 0.48, 0.2
)
BUS = Model(
    'bus', (9.5, 12.0), (2.4, 2.55), (2.9, 3.2), (COACH,), (0.22, 0.76), 0.48, 0.2, (0.1, 0.24)
)
TRAIN = Model(
    'train', (14.0, 20.0), (2.3, 2.5), (3.2, 3.6), (TRAM,), (0.2, 0.8), 0.0, 0.22, (0.22, 0.38)
)


def vehicle(
    model: Model,
    place: tuple[float, float],
    yaw: float,
    camera: Camera,
    rng: np.random.Generator,
    lamps_on: bool,
) -> Item:
    """Return a vehicle seen by the camera.

    Args:
        model: Its kind.
        place: (X, Z) of its middle in metres.
        yaw: Direction of travel in radians; 0 drives away, pi/2 to the right.
        camera: The camera.
        rng: Source of size and colours.
        lamps_on: Whether lamps shine.
    """
    size = tuple(rng.uniform(*span) for span in (model.length, model.width, model.height))
    frame = _Frame(place, yaw, size, camera)
    paints = _paints(model, rng)
    bodies = sorted(model.bodies, key=frame.distance_of, reverse=True)
    shapes = []
    for body in bodies:
        paint = paints[model.bodies.index(body)]
        shapes += _body_shapes(body, paint, frame)
        if body is model.bodies[-1] or len(model.bodies) > 1:
            shapes += _side_shapes(model, body, paints[-1], frame)
        shapes += _lamp_shapes(model, body, frame, lamps_on)
    footprint = [(u, w) for u, w in ((0, -1), (0, 1), (1, 1), (1, -1))]
    corners = [frame.world(u, 0, w) for u, w in footprint]
    depth = min(corner[2] for corner in corners)
    return Item(model.label, depth, shapes, [(c[0], c[2]) for c in corners], size[2])


class _Frame:
    """Turns shares of length, height and half width into the world and the image."""

    def __init__(
        self,
        place: tuple[float, float],
        yaw: float,
        size: tuple[float, ...],
        camera: Camera,
    ) -> None:
        self.length, self.width, self.height = size
        self.camera = camera
        self._middle = np.array([place[0], 0.0, place[1]])
        self._along = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
        self._across = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])

    def world(self, u: float, v: float, w: float) -> np.ndarray:
        """Return the world point at length share u, height share v and half-width share w."""
        return (
            self._middle
            + (u - 0.5) * self.length * self._along
            + 0.5 * w * self.width * self._across
            + np.array([0.0, v * self.height, 0.0])
        )

    def polygon(self, points: Sequence[tuple[float, float, float]]) -> np.ndarray:
        """Return image points (N, 2) of points (u, v, w)."""
        return self.camera.project(np.array([self.world(*point) for point in points]))

    def faces_camera(self, points: Sequence[tuple[float, float, float]], inside: np.ndarray) -> bool:
        """Return whether the outer side of a face can be seen; ``inside`` is a world point behind it."""
        corners = np.array([self.world(*point) for point in points])
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        outward = normal * np.sign(normal @ (corners.mean(0) - inside))
        return bool(outward @ (corners.mean(0) - [0.0, self.camera.height, 0.0]) < 0)

    def distance_of(self, body: Body) -> float:
        """Return how far a body's middle is."""
        middle = np.mean([u for u, _ in body.profile])
        return float(np.linalg.norm(self.world(middle, 0.5, 0)))

    def side(self) -> int:
        """Return which side, +1 or -1, the camera can see."""
        return 1 if self._across @ self._middle < 0 else -1


def _paints(model: Model, rng: np.random.Generator) -> list[Colour]:
    """Return one paint per body and one for stripes."""
    if model.label == 'car' and rng.random() < 0.55:
        grey = rng.choice([28, 70, 125, 170, 225])
        paint = shade((grey, grey, grey * 1.03), rng.uniform(0.9, 1.1))
    else:
        paint = random_colour(rng, (0.45, 0.95), (0.35, 0.9))
    pale = random_colour(rng, (0.0, 0.25), (0.75, 0.95))
    if model.label == 'truck':
        return [pale if rng.random() < 0.6 else random_colour(rng, (0.3, 0.7), (0.4, 0.8)), paint, paint]
    if model.label == 'train':
        return [pale, paint]
    return [paint, pale]


def _body_shapes(body: Body, paint: Colour, frame: _Frame) -> list[Shape]:
    """Return the visible faces of a body, the far ones first."""
    middle = np.mean(np.array(body.profile), axis=0)
    inside = frame.world(middle[0], middle[1], 0)
    faces = []
    segments = zip(body.profile[:-1], body.profile[1:], strict=True)
    for index, ((u0, v0), (u1, v1)) in enumerate(segments):
        corners = [(u0, v0, -1), (u0, v0, 1), (u1, v1, 1), (u1, v1, -1)]
        if not frame.faces_camera(corners, inside):
            continue
        flat = abs(u1 - u0) * frame.length > abs(v1 - v0) * frame.height
        faces.append((corners, shade(paint, 1.18 if flat else 0.86), index in body.glass))
    shapes = []
    for corners, colour, glass in faces:
        shapes.append(Shape(frame.polygon(corners), colour))
        if glass:
            shapes.append(Shape(frame.polygon(_inset(corners, 0.1)), _GLASS))
    return shapes


def _side_shapes(model: Model, body: Body, stripe: Colour, frame: _Frame) -> list[Shape]:
    """Return the side of a body that the camera sees: wall, windows, stripe, wheels."""
    side = frame.side()
    paint = stripe
    shapes = [Shape(frame.polygon([(u, v, side) for u, v in body.profile]), paint)]
    return shapes


def _lamp_shapes(model: Model, body: Body, frame: _Frame, on: bool) -> list[Shape]:
    return []


def _inset(corners: Sequence[Sequence[float]], share: float) -> np.ndarray:
    """Return corners moved towards their middle."""
    corners = np.array(corners, dtype=float)
    return corners + share * (corners.mean(0) - corners)
