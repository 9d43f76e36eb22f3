"""People, bicycles, motorcycles, trees and street furniture of generated street scenes: flat figures in metres.

A figure is drawn in its own plane, x to the right and y up from where it stands, and put into the scene upright, facing
the camera. ``turn`` in (0, 1] narrows it, as if it were seen more from the front than from the side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from castkd.datasets.scenes.geometry import (
    Camera,
    Colour,
    Item,
    Shape,
    ellipse,
    limb,
    random_colour,
    shade,
)

Place = tuple[float, float]
Part = tuple[np.ndarray, Colour] | tuple[np.ndarray, Colour, float]

_SKIN = ((236, 188, 160), (205, 150, 118), (150, 104, 78), (96, 66, 50))
_HAIR = ((30, 24, 22), (72, 48, 32), (140, 104, 62), (120, 118, 116))
_BLACK = (24.0, 24.0, 26.0)
_METAL = (112.0, 114.0, 118.0)


def stand(
    label: str, parts: Sequence[Part], place: Place, camera: Camera, turn: float = 1.0
) -> Item:
    """Return a figure put upright at a place.

    Args:
        label: Cityscapes label name.
        parts: Polygons (N, 2) in metres, with colour and, where less than 1, opacity.
        place: (X, Z) in metres.
        camera: The camera.
        turn: Factor of the width; negative values mirror the figure.
    """
    x, z = place
    polygons = [np.empty((len(points), 3)) for points, *_ in parts]
    for polygon, (points, *_) in zip(polygons, parts, strict=True):
        polygon[:, 0], polygon[:, 1], polygon[:, 2] = x + turn * points[:, 0], points[:, 1], z
    outlines = camera.project_all(polygons)
    shapes = [Shape(outline, *paint) for outline, (_, *paint) in zip(outlines, parts, strict=True)]
    corners = np.concatenate(polygons)
    left, right = corners[:, 0].min(), corners[:, 0].max()
    footprint = [(left, z - 0.12), (left, z + 0.12), (right, z + 0.12), (right, z - 0.12)]
    return Item(label, z, shapes, np.array(footprint), float(corners[:, 1].max()))


def person(place: Place, camera: Camera, rng: np.random.Generator) -> Item:
    """Return somebody who walks or stands."""
    height = rng.uniform(1.5, 1.9) if rng.random() < 0.85 else rng.uniform(1.05, 1.4)
    stride = rng.uniform(0.02, 0.17)
    swing = rng.uniform(-0.14, 0.14)
    top, trousers, skin = _clothes(rng)
    torso = [
        (-0.125, 0.83),
        (0.125, 0.83),
        (0.105, 0.62),
        (0.11, 0.46),
        (-0.11, 0.46),
        (-0.105, 0.62),
    ]
    if rng.random() < 0.3:
        torso[3], torso[4] = (0.14, 0.33), (-0.14, 0.33)
    parts: list[Part] = [
        (limb((-0.045, 0.5), (-stride, 0.03), 0.095, 0.6), shade(trousers, 0.8)),
        (limb((-stride - 0.03, 0.02), (-stride + 0.06, 0.02), 0.045), _BLACK),
        (limb((0.045, 0.5), (stride, 0.03), 0.095, 0.6), trousers),
        (limb((stride - 0.03, 0.02), (stride + 0.06, 0.02), 0.045), _BLACK),
        (limb((-0.12, 0.8), (-0.16 - swing, 0.46), 0.062, 0.75), shade(top, 0.72)),
        (np.array(torso), top),
        (limb((0.12, 0.8), (0.16 - swing, 0.46), 0.062, 0.75), shade(top, 0.84)),
        (limb((0, 0.81), (0, 0.88), 0.06), skin),
        (ellipse((0, 0.925), (0.055, 0.07)), skin),
        (ellipse((0, 0.955), (0.057, 0.045)), _HAIR[rng.integers(len(_HAIR))]),
    ]
    if rng.random() < 0.3:
        bag = ellipse((rng.choice([-0.11, 0.11]), 0.66), (0.075, 0.13), 10)
        parts.insert(rng.choice([4, 6]), (bag, random_colour(rng, (0.3, 0.9), (0.2, 0.8))))
    scaled = [(points * height, *paint) for points, *paint in parts]
    return stand('person', scaled, place, camera, rng.uniform(0.75, 1.0) * rng.choice([-1, 1]))


def bicycle(place: Place, camera: Camera, rng: np.random.Generator, ridden: bool) -> list[Item]:
    """Return a bicycle, and its rider when it is ridden."""
    paint = random_colour(rng, (0.3, 0.95), (0.25, 0.9))
    hub = [(-0.52, 0.34), (0.52, 0.34)]
    crank, saddle, head = (-0.06, 0.3), (-0.2, 0.86), (0.36, 0.86)
    parts: list[Part] = []
    for centre in hub:
        parts.append((ellipse(centre, (0.34, 0.34), 20), _BLACK))
        parts.append((ellipse(centre, (0.27, 0.27), 20), (128, 128, 130), 0.35))
        parts.append((ellipse(centre, (0.05, 0.05), 8), _METAL))
    bars = [(hub[0], crank), (hub[0], saddle), (crank, saddle), (crank, head), (saddle, head)]
    parts += [(limb(start, end, 0.055), paint) for start, end in bars]
    parts.append((limb((0.33, 0.95), hub[1], 0.055), paint))
    parts.append((limb((0.26, 0.98), (0.44, 1.0), 0.05), _BLACK))
    parts.append((limb((-0.32, 0.91), (-0.08, 0.91), 0.07), _BLACK))
    return _with_rider('bicycle', parts, (-0.2, 0.92), (0.34, 1.02), place, camera, rng, ridden)


def motorcycle(place: Place, camera: Camera, rng: np.random.Generator, ridden: bool) -> list[Item]:
    """Return a motorcycle, and its rider when it is ridden."""
    paint = random_colour(rng, (0.3, 0.95), (0.25, 0.9))
    body = [
        (-0.55, 0.62),
        (-0.5, 0.84),
        (0.1, 0.8),
        (0.3, 0.98),
        (0.48, 0.84),
        (0.3, 0.42),
        (-0.2, 0.34),
    ]
    parts: list[Part] = []
    for centre in ((-0.68, 0.32), (0.7, 0.32)):
        parts.append((ellipse(centre, (0.32, 0.32), 20), _BLACK))
        parts.append((ellipse(centre, (0.15, 0.15), 12), _METAL))
    parts += [
        (np.array(body), paint),
        (np.array([(-0.3, 0.52), (0.2, 0.55), (0.2, 0.28), (-0.25, 0.28)]), shade(_METAL, 0.55)),
        (limb((-0.75, 0.3), (0.05, 0.27), 0.1), _METAL),
        (limb((-0.72, 0.88), (0.06, 0.84), 0.13), _BLACK),
        (limb((0.34, 1.02), (0.7, 0.32), 0.08), _METAL),
        (limb((0.2, 1.06), (0.38, 1.06), 0.06), _BLACK),
        (ellipse((0.46, 0.86), (0.08, 0.09), 10), (235, 232, 205)),
    ]
    return _with_rider('motorcycle', parts, (-0.25, 0.88), (0.3, 1.08), place, camera, rng, ridden)


def _with_rider(
    label: str,
    parts: list[Part],
    seat: Place,
    grip: Place,
    place: Place,
    camera: Camera,
    rng: np.random.Generator,
    ridden: bool,
) -> list[Item]:
    """Return a two-wheeler and, when it is ridden, the person on it."""
    turn = rng.uniform(0.4, 1.0) * rng.choice([-1, 1])
    items = [stand(label, parts, place, camera, turn)]
    if ridden:
        above = (place[0], place[1] - 1e-3)
        rider = stand('rider', _rider(seat, grip, label, rng), above, camera, turn)
        rider.footprint = None
        items.append(rider)
    return items


def _rider(seat: Place, grip: Place, label: str, rng: np.random.Generator) -> list[Part]:
    """Return somebody who sits at ``seat`` and holds ``grip``."""
    top, trousers, skin = _clothes(rng)
    hip, lean = np.array(seat), rng.uniform(0.15, 0.34)
    shoulder = np.add(hip, (lean, 0.5))
    head = np.add(shoulder, (0.06, 0.22))
    foot = np.array([-0.02 + rng.uniform(-0.08, 0.1), 0.2])
    knee = (hip + foot) / 2 + [0.24, 0.08]
    helmet = 0.15 if label == 'motorcycle' else 0.125
    cap = random_colour(rng, (0.0, 0.9), (0.2, 0.95))
    return [
        (limb(hip, knee, 0.17, 0.75), trousers),
        (limb(knee, foot, 0.12, 0.7), shade(trousers, 0.88)),
        (limb(foot - [0.06, 0], np.add(foot, (0.16, 0)), 0.09), _BLACK),
        (limb(hip - [0, 0.06], shoulder, 0.27, 1.1), top),
        (ellipse(shoulder, (0.15, 0.12), 12), top),
        (ellipse(head, (0.105, 0.13), 14), skin),
        (ellipse(np.add(head, (-0.01, 0.05)), (helmet, helmet * 0.85), 14), cap),
        (limb(shoulder, (shoulder + grip) / 2 - [0, 0.1], 0.11), shade(top, 0.8)),
        (limb((shoulder + grip) / 2 - [0, 0.1], grip, 0.09), shade(top, 0.8)),
    ]


def _clothes(rng: np.random.Generator) -> tuple[Colour, Colour, Colour]:
    """Return the colours of jacket, trousers and skin."""
    jacket = random_colour(rng, (0.1, 0.9), (0.15, 0.95))
    trousers = random_colour(rng, (0.05, 0.6), (0.12, 0.6))
    return jacket, trousers, _SKIN[rng.integers(len(_SKIN))]


def tree(place: Place, camera: Camera, rng: np.random.Generator) -> list[Item]:
    """Return a tree: a trunk below a crown of leaf clusters."""
    height, radius = rng.uniform(4.5, 9.0), rng.uniform(1.3, 2.4)
    bark = shade((86, 68, 52), rng.uniform(0.7, 1.2))
    trunk = stand(
        'vegetation', [(limb((0, 0), (0, height - 0.6 * radius), 0.36, 0.6), bark)], place, camera
    )
    crown = stand(
        'vegetation', _leaves((0, height), (radius, radius * 1.1), 16, rng), place, camera
    )
    crown.footprint = None
    return [trunk, crown]


def bush(place: Place, camera: Camera, rng: np.random.Generator) -> list[Item]:
    """Return a bush."""
    radius = rng.uniform(0.5, 1.1)
    return [
        stand(
            'vegetation', _leaves((0, radius * 0.7), (radius, radius * 0.7), 8, rng), place, camera
        )
    ]


def _leaves(centre: Place, radii: Place, count: int, rng: np.random.Generator) -> list[Part]:
    """Return clusters of leaves in an ellipse, the shaded ones first."""
    green = np.array([rng.uniform(48, 100), rng.uniform(88, 128), rng.uniform(34, 62)])
    radii = np.array(radii)
    parts: list[Part] = [(ellipse(centre, radii * 0.8), shade(green, 0.6))]
    for index in range(count):
        angle, distance = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 0.85))
        offset = distance * radii * [np.cos(angle), np.sin(angle)]
        size = rng.uniform(0.2, 0.42) * radii.min()
        light = 0.62 + 0.55 * index / count + 0.12 * offset[1] / radii[1]
        parts.append(
            (ellipse(np.array(centre) + offset, (size, size * 0.8), 9), shade(green, light))
        )
    return parts


def lamp_post(place: Place, camera: Camera, rng: np.random.Generator, lit: bool) -> list[Item]:
    """Return a street lamp that reaches over the road."""
    height, grey = rng.uniform(5.0, 8.0), shade(_METAL, rng.uniform(0.5, 1.1))
    arm = -np.sign(place[0]) * rng.uniform(0.6, 1.6)
    lamp = limb((arm, height + 0.1), (arm * 1.35, height + 0.08), 0.16)
    parts = [
        (limb((0, 0), (0, height), 0.16, 0.6), grey),
        (limb((0, height), (arm, height + 0.1), 0.09), grey),
        (lamp, (255, 240, 190) if lit else (190, 190, 185)),
    ]
    return [stand('pole', parts, place, camera)]


def traffic_light(place: Place, camera: Camera, rng: np.random.Generator, lit: bool) -> list[Item]:
    """Return traffic lights on a post."""
    top = rng.uniform(2.8, 3.4)
    post = stand('pole', [(limb((0, 0), (0, top), 0.12), _METAL)], place, camera)
    colours = [(60, 20, 20), (60, 50, 18), (18, 56, 34)]
    shining = int(rng.integers(3))
    colours[shining] = [(250, 50, 40), (250, 190, 40), (60, 240, 140)][shining]
    case: list[Part] = [
        (np.array([(-0.2, top), (0.2, top), (0.2, top - 0.95), (-0.2, top - 0.95)]), _BLACK)
    ]
    for index, colour in enumerate(colours):
        case.append((ellipse((0, top - 0.19 - 0.29 * index), (0.11, 0.11), 10), colour))
    head = stand('traffic light', case, place, camera)
    head.footprint = None
    return [post, head]


def sign(place: Place, camera: Camera, rng: np.random.Generator, lit: bool) -> list[Item]:
    """Return a traffic sign on a post: a disc, a triangle or a board."""
    top = rng.uniform(2.1, 2.7)
    post = stand('pole', [(limb((0, 0), (0, top), 0.09), _METAL)], place, camera)
    corners = int(rng.choice([3, 4, 16]))
    rim, face = [
        ((200, 30, 34), (238, 236, 230)),
        ((34, 74, 168), (40, 86, 190)),
        ((228, 184, 32),) * 2,
    ][rng.integers(3)]
    turn = np.pi / 2 if corners == 3 else np.pi / 4
    angles = turn + np.arange(corners) * (2 * np.pi / corners)
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 0.36
    plate = stand(
        'traffic sign',
        [(np.add(outline, (0, top)), rim), (np.add(outline * 0.72, (0, top)), face)],
        place,
        camera,
    )
    plate.footprint = None
    return [post, plate]


def box(place: Place, camera: Camera, rng: np.random.Generator, lit: bool) -> list[Item]:
    """Return a container or a mail box, as colourful as a car."""
    width, height = rng.uniform(0.3, 0.8), rng.uniform(0.8, 1.5)
    paint = random_colour(rng, (0.3, 0.9), (0.25, 0.85))
    wall = np.array([(-width, 0), (-width, height), (width, height), (width, 0)])
    lid = np.array(
        [
            (-width, height),
            (-width * 0.85, height * 1.1),
            (width * 0.85, height * 1.1),
            (width, height),
        ]
    )
    slot = limb((-width * 0.6, height * 0.7), (width * 0.6, height * 0.7), height * 0.12)
    parts = [(wall, paint), (lid, shade(paint, 1.25)), (slot, shade(paint, 0.5))]
    return [stand('static', parts, place, camera)]


FURNITURE: tuple[Callable[[Place, Camera, np.random.Generator, bool], list[Item]], ...] = (
    lamp_post,
    traffic_light,
    sign,
    box,
)
