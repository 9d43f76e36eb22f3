"""Street scenes painted from a random generator: everything in its place, far things first, then the light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import name2label

from castkd.datasets.scenes.background import (
    BACKGROUND,
    Light,
    Street,
    cast_shadows,
    paint_ground,
    paint_houses,
    paint_sky,
)
from castkd.datasets.scenes.geometry import Camera, Canvas, Item
from castkd.datasets.scenes.placement import place_objects, place_scenery


@dataclass(frozen=True)
class Scene:
    """A painted street.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        instance_ids: (H, W) uint16 in the Cityscapes form: label id x 1000 + number for an object, the label id alone
            for everything else and for objects of which too little is visible to tell them apart.
    """

    image: np.ndarray
    instance_ids: np.ndarray


_LIGHTS = {
    'day': Light(((84, 138, 206), (196, 216, 232)), (1.06, 1.03, 0.97), 1.0, 0.55, False),
    'overcast': Light(((168, 174, 180), (208, 210, 212)), (0.9, 0.92, 0.95), 0.72, 0.28, False),
    'dusk': Light(((52, 52, 96), (232, 152, 104)), (0.66, 0.55, 0.56), 0.85, 0.3, True),
}


def paint_scene(
    rng: np.random.Generator, size: tuple[int, int], with_objects: bool = True
) -> Scene:
    """Paint one street scene.

    Args:
        rng: Decides everything.
        size: (height, width) in pixels; each at least 32.
        with_objects: Whether vehicles, people and bicycles are on the street.
    """
    height, width = size
    light = _LIGHTS[rng.choice(list(_LIGHTS), p=[0.5, 0.3, 0.2])]
    camera = Camera(
        focal=height * rng.uniform(1.05, 1.3),
        centre=width * rng.uniform(0.38, 0.62),
        horizon=height * rng.uniform(0.34, 0.44),
        height=rng.uniform(1.8, 2.4),
    )
    street = Street(
        left=-rng.uniform(4.0, 7.0),
        right=rng.uniform(2.6, 5.5),
        walk=rng.uniform(2.4, 4.2),
        near=camera.depth_at(height),
    )
    items = place_scenery(street, camera, rng, light)
    if with_objects:
        items += place_objects(street, camera, rng, light)
    items.sort(key=lambda item: -item.depth)
    canvas = Canvas(size)
    paint_sky(canvas, camera, light, rng)
    paint_ground(canvas, camera, street, rng)
    paint_houses(canvas, camera, street, rng, light)
    cast_shadows(canvas, camera, items, light, rng)
    distance = rng.uniform(90, 400)
    for index, item in enumerate(items):
        share = 1 - np.exp(-item.depth / distance)
        canvas.draw(item.shapes, len(BACKGROUND) + index, (share, light.sky[1]), rng)
    return Scene(_develop(canvas.image, light, rng), _instance_ids(canvas.owner, items))


def _instance_ids(owner: np.ndarray, items: list[Item]) -> np.ndarray:
    """Return the map of Cityscapes instance ids of a map of item indices."""
    labels = [name2label[name] for name in (*BACKGROUND, *(item.label for item in items))]
    visible = np.bincount(owner.ravel(), minlength=len(labels))
    # What is left of a hidden object must still be recognisable: 20 pixels at 128 x 256, 160 at 1024 x 2048.
    least = max(6.0, 0.11 * owner.size**0.5)
    numbers: dict[int, int] = {}
    ids = np.zeros(len(labels), dtype=np.uint16)
    # Near objects get the low numbers.
    for index in range(len(labels) - 1, -1, -1):
        label = labels[index]
        ids[index] = label.id
        if label.hasInstances and visible[index] >= least:
            ids[index] = label.id * 1000 + numbers.setdefault(label.id, 0)
            numbers[label.id] += 1
    return ids[owner]


def _develop(image: np.ndarray, light: Light, rng: np.random.Generator) -> np.ndarray:
    """Return the image under its light, as a camera with some blur and noise takes it."""
    height, width = image.shape[:2]
    image = image.astype(np.float32)
    luminance = np.tile([0.299, 0.587, 0.114], (3, 1))
    mixing = light.saturation * np.eye(3) + (1 - light.saturation) * luminance
    image = cv2.transform(image, rng.uniform(0.85, 1.12) * np.diag(light.gain) @ mixing)
    across = np.linspace(-1, 1, width, dtype=np.float32) ** 2
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
    image *= (1 - rng.uniform(0, 0.12) * (across + down))[..., None]
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8) * max(height / 256, 1))
    image += rng.uniform(1, 6) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)
