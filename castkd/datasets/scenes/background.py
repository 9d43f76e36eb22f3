"""What stands still behind the traffic of a street scene: sky, ground, houses, shadows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from castkd.datasets.scenes.geometry import Camera, Canvas, Colour, Item, random_colour, shade

#: Cityscapes labels that fill the canvas behind the items; their indices are the first owners.
BACKGROUND = ('terrain', 'sidewalk', 'road', 'sky', 'vegetation', 'building')
_TERRAIN, _SIDEWALK, _ROAD, _SKY, _VEGETATION, _BUILDING = range(len(BACKGROUND))
_FAR = 80.0


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    Attributes:
        sky: Colours at the top of the image and at the horizon.
        gain: Factor per colour channel.
        saturation: Factor of the colourfulness.
        shadow: Darkness of shadows in [0, 1].
        lamps: Whether lamps and some windows shine.
    """

    sky: tuple[Colour, Colour]
    gain: Colour
    saturation: float
    shadow: float
    lamps: bool


@dataclass(frozen=True)
class Street:
    """Where things may stand.

    Attributes:
        left: X of the left edge of the road in metres.
        right: X of the right edge.
        walk: Width of the sidewalks in metres.
        near: Distance in metres at which the ground enters the image.
    """

    left: float
    right: float
    walk: float
    near: float

    @property
    def lanes(self) -> tuple[float, float]:
        """X of the middles of the oncoming and the outgoing lane."""
        quarter = (self.right - self.left) / 4
        return self.left + quarter, self.right - quarter


def paint_sky(canvas: Canvas, camera: Camera, light: Light, rng: np.random.Generator) -> None:
    """Fill the image with a gradient and clouds; the horizon's colour goes on below it."""
    height, width = canvas.size
    share = np.clip(np.arange(height) / camera.horizon, 0, 1)[:, None, None]
    top, bottom = (np.array(colour) for colour in light.sky)
    noise = rng.random((4, 6), dtype=np.float32)
    clouds = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    amount = 50 * rng.random() * np.clip(clouds - 0.45, 0, None)
    canvas.image[:] = np.clip(top + (bottom - top) * share + amount, 0, 255)
    canvas.owner[:] = _SKY


class _Ground:
    """Paints rectangles on the ground, given in metres."""

    def __init__(self, canvas: Canvas, camera: Camera, street: Street) -> None:
        self._canvas = canvas
        self._camera = camera
        self.near = 0.8 * street.near

    def patch(self, left: float, right: float, near: float, far: float, colour: Colour) -> None:
        """Paint a rectangle over what is there."""
        self._canvas.fill(self._camera.patch(left, right, near, far), colour)

    def strip(self, left: float, right: float, colour: Colour, owner: int | None = None) -> None:
        """Paint from the camera to the end of the street."""
        self._canvas.fill(self._camera.patch(left, right, self.near, _FAR), colour, owner)


def paint_ground(canvas: Canvas, camera: Camera, street: Street, rng: np.random.Generator) -> None:
    """Paint terrain, sidewalks with slabs, and the road with markings and mended places."""
    start = int(np.ceil(camera.horizon))
    canvas.image[start:] = shade((112, 122, 88), rng.uniform(0.7, 1.1))
    canvas.owner[start:] = _TERRAIN
    ground = _Ground(canvas, camera, street)
    slabs = rng.uniform(128, 178) + rng.uniform(-12, 12, 3)
    left, right = street.left - street.walk, street.right + street.walk
    ground.strip(left, right, slabs, _SIDEWALK)
    for z in np.geomspace(ground.near, 30, 22):
        ground.patch(left, right, z, z * 1.012, slabs * 0.87)
    ground.strip(street.left - 0.25, street.right + 0.25, slabs * 1.18)
    asphalt = rng.uniform(72, 118) + rng.uniform(-5, 5, 3)
    ground.strip(street.left, street.right, asphalt, _ROAD)
    for _ in range(rng.integers(2, 7)):
        x, z = rng.uniform(street.left, street.right - 0.6), rng.uniform(ground.near, 30)
        end = min(x + rng.uniform(0.3, 2.5), street.right)
        ground.patch(x, end, z, z + rng.uniform(0.4, 5), asphalt * rng.uniform(0.8, 1.15))
    _paint_markings(ground, street, asphalt, rng)
    _roughen(canvas.image[start:], rng)


def _paint_markings(
    ground: _Ground, street: Street, asphalt: np.ndarray, rng: np.random.Generator
) -> None:
    """Paint lane lines, sometimes a crossing, sometimes rails."""
    white = shade((226, 226, 220), rng.uniform(0.75, 1.05))
    middle = (street.left + street.right) / 2
    gap = 3.0 if rng.random() < 0.7 else 0.0
    for z in np.arange(ground.near + rng.uniform(0, 3), 60, 3.0 + gap):
        ground.patch(middle - 0.08, middle + 0.08, z, z + 3.0, white)
    for x in (street.left + 0.3, street.right - 0.3):
        ground.strip(x - 0.06, x + 0.06, shade(white, 0.9))
    if rng.random() < 0.4:
        z = rng.uniform(street.near + 1, 16)
        for x in np.arange(street.left + 0.4, street.right - 0.6, 1.0):
            ground.patch(x, x + 0.5, z, z + 3.0, white)
    if rng.random() < 0.3:
        for x in street.lanes[0] + np.array([-1.4, -0.7, 0.7, 1.4]):
            if street.left < x < street.right:
                ground.strip(x - 0.05, x + 0.05, asphalt * 0.6)


def _roughen(image: np.ndarray, rng: np.random.Generator) -> None:
    """Add a coarse texture, drawn out sideways, and a fine one."""
    height, width = image.shape[:2]
    coarse = rng.standard_normal((max(height // 2, 1), max(width // 5, 1)), dtype=np.float32)
    texture = cv2.resize(coarse, (width, height))
    texture += rng.standard_normal((height, width), dtype=np.float32)
    image[:] = np.clip(image + 4.0 * texture[..., None], 0, 255)


def paint_houses(
    canvas: Canvas, camera: Camera, street: Street, rng: np.random.Generator, light: Light
) -> None:
    """Paint the end of the street and both rows of houses, far ones first."""
    edges = (street.left - street.walk, street.right + street.walk)
    finest = np.clip(canvas.size[0] // 7, 16, 64)
    _paint_tree_line(canvas, camera, rng)
    for side, x in zip((-1, 1), edges, strict=True):
        z = _FAR
        while z > street.near * 0.7:
            length, height = rng.uniform(7, 18), rng.uniform(6, 20)
            near = max(z - length, 0.55 * street.near)
            if rng.random() < 0.85:
                cell = int(np.clip(3 * camera.focal / near, 5, finest))
                texture = _facade((length, height), cell, rng, light)
                front = np.array([(x, height, near), (x + side * 12, height, near)])
                front = np.concatenate([front, front[::-1] * [1, 0, 1]])
                canvas.paste(np.uint8(texture * 0.8), camera.project(front), _BUILDING)
                wall = np.array([(x, height, z), (x, height, near), (x, 0, near), (x, 0, z)])
                canvas.paste(texture, camera.project(wall), _BUILDING)
            z = near - (rng.uniform(2, 6) if rng.random() < 0.2 else 0)


def _paint_tree_line(canvas: Canvas, camera: Camera, rng: np.random.Generator) -> None:
    """Paint trees far behind everything, a ragged band at the horizon."""
    height, width = canvas.size
    steps = max(width // 6, 4)
    rows = camera.horizon - height * rng.uniform(0.01, 0.1, steps)
    top = np.column_stack([np.linspace(0, width, steps), rows])
    base = camera.horizon + 0.012 * height
    outline = np.concatenate([top, [(width, base), (0, base)]])
    green = shade((92, 112, 82), rng.uniform(0.8, 1.15))
    canvas.fill(outline, green, _VEGETATION)


def _facade(
    size: tuple[float, float], cell: int, rng: np.random.Generator, light: Light
) -> np.ndarray:
    """Return a house front (h, w, 3) uint8 with rows of windows above a ground floor.

    Args:
        size: (length, height) in metres.
        cell: Pixels of one storey, and of one window's width.
        rng: Source of colours and proportions.
        light: Whether some windows shine.
    """
    length, height = size
    storey, bay = rng.uniform(2.7, 3.6), rng.uniform(1.6, 3.0)
    rows, columns = max(int(height / storey), 2), max(int(length / bay), 2)
    wall = np.array(random_colour(rng, (0.02, 0.4), (0.4, 0.85)))
    glass = rng.uniform(0.55, 1.35, (rows, columns, 1)) * np.array([70, 82, 98])
    if light.lamps:
        glass[rng.random((rows, columns)) < 0.3] = (250, 214, 140)
    glass[-1] *= 0.8
    colours = np.empty((3, rows, columns, 3), dtype=np.float32)
    colours[0], colours[1], colours[2] = wall, wall * rng.choice([0.7, 1.25]), glass
    colours[0, -1] *= 0.62
    # Per pixel of a cell: 0 = wall, 1 = frame, 2 = pane.
    low, high = rng.uniform(0.14, 0.28), rng.uniform(0.72, 0.86)
    place = (np.arange(cell) + 0.5) / cell
    across = (
        0
        + (abs(place - (low + high) / 2) < (high - low) / 2 + 0.07)
        + ((place > low) & (place < high))
    )
    down = 0 + ((place > 0.16) & (place < 0.86)) + ((place > 0.22) & (place < 0.8))
    part = np.minimum(down[:, None], across[None])
    texture = colours[part].transpose(2, 0, 3, 1, 4).reshape(rows * cell, columns * cell, 3)
    texture[::cell] *= 0.88
    if rng.random() < 0.4:
        texture[-cell : -cell + max(cell // 5, 1)] = random_colour(rng, (0.4, 0.9), (0.4, 0.85))
    texture += 5 * rng.standard_normal((*texture.shape[:2], 1), dtype=np.float32)
    return np.clip(texture, 0, 255).astype(np.uint8)


def cast_shadows(
    canvas: Canvas, camera: Camera, items: list[Item], light: Light, rng: np.random.Generator
) -> None:
    """Darken the ground beneath and beside everything that stands on it."""
    shadow = np.zeros(canvas.size, dtype=np.uint8)
    sun = rng.uniform(-0.9, 0.9), rng.uniform(-0.1, 0.5)
    for item in items:
        if item.footprint is None:
            continue
        foot = item.footprint
        length = min(item.height, 2.5) * (0.5 if light.shadow > 0.5 else 0.1)
        points = camera.ground(np.concatenate([foot, foot + length * np.array(sun)]))
        hull = cv2.convexHull(np.float32(np.clip(points, -4000, 4000)))
        cv2.fillConvexPoly(shadow, np.int32(np.round(hull)), 255)
    start = int(camera.horizon)
    soft = cv2.GaussianBlur(shadow[start:], (0, 0), 0.006 * canvas.size[0])
    soft[canvas.owner[start:] > _ROAD] = 0
    light_left = 1 - np.float32(light.shadow / 255) * soft[..., None]
    canvas.image[start:] = canvas.image[start:] * light_left
