"""What is on the streets of the scenes and where: vehicles, people, trees and street furniture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from castkd.datasets.scenes import figures, vehicles
from castkd.datasets.scenes.background import Light, Street
from castkd.datasets.scenes.geometry import Camera, Item

Place = tuple[float, float]


def place_scenery(
    street: Street, camera: Camera, rng: np.random.Generator, light: Light
) -> list[Item]:
    """Return trees, bushes and street furniture along both kerbs."""
    items = []
    for _ in range(rng.integers(4, 11)):
        side = rng.choice([-1, 1])
        edge = street.left if side < 0 else street.right
        place = (edge + side * rng.uniform(0.4, 0.9), _distance(rng, street.near + 2, 60))
        kind = rng.random()
        if kind < 0.35:
            items += figures.tree(place, camera, rng)
        elif kind < 0.45:
            items += figures.bush(place, camera, rng)
        else:
            make = figures.FURNITURE[rng.integers(len(figures.FURNITURE))]
            items += make(place, camera, rng, light.lamps)
    return items


def _distance(rng: np.random.Generator, near: float, far: float) -> float:
    """Return a distance that is as often between 5 and 10 metres as between 10 and 20."""
    return float(np.exp(rng.uniform(np.log(near), np.log(far))))


class _Plots:
    """Ground that is taken: vehicles must not run into each other."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float, float]] = []

    def take(self, place: Place, half_width: float, half_length: float) -> bool:
        """Take the ground around a place unless someone has it."""
        x, z = place
        for other_x, other_z, other_width, other_length in self._taken:
            beside = abs(x - other_x) < half_width + other_width
            if beside and abs(z - other_z) < half_length + other_length:
                return False
        self._taken.append((x, z, half_width, half_length))
        return True


def place_objects(
    street: Street, camera: Camera, rng: np.random.Generator, light: Light
) -> list[Item]:
    """Return vehicles, two-wheelers and people."""
    plots = _Plots()
    items = []
    for model, chance in ((vehicles.TRAIN, 0.22), (vehicles.BUS, 0.32), (vehicles.TRUCK, 0.34)):
        if rng.random() < chance:
            items += _drive(model, plots, street, camera, rng, light)
    for _ in range(rng.integers(2, 8)):
        model = vehicles.CARS[rng.integers(len(vehicles.CARS))]
        items += _drive(model, plots, street, camera, rng, light)
    for make, highest in ((figures.bicycle, 4), (figures.motorcycle, 2)):
        for _ in range(rng.integers(0, highest)):
            items += _ride(make, plots, street, camera, rng)
    for _ in range(rng.integers(1, 8)):
        items += _walk(plots, street, camera, rng)
    return items


def _drive(
    model: vehicles.Model,
    plots: _Plots,
    street: Street,
    camera: Camera,
    rng: np.random.Generator,
    light: Light,
) -> list[Item]:
    """Return a vehicle in a lane, at the kerb or across the road, or nothing where no room is found."""
    length, width = model.length[1] / 2, model.width[1] / 2
    nearest = street.near + 1.2 + length
    for _ in range(6):
        kind = rng.random()
        side = int(rng.integers(2))
        yaw = (np.pi if side == 0 else 0.0) + rng.normal(0, 0.06)
        x = street.lanes[side]
        z = _distance(rng, nearest, 45)
        half = (width, length)
        if kind < 0.4 and model.label == 'car':
            x = street.left + width + 0.1 if side == 0 else street.right - width - 0.1
        elif kind < 0.6 and model.label != 'train':
            yaw = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.25)
            x, half = rng.uniform(street.left, street.right) * 1.2, (length, width)
            z = _distance(rng, street.near + 3.5, 30)
        if plots.take((x, z), half[0] + 0.2, half[1] + 0.4):
            return [vehicles.vehicle(model, (x, z), yaw, camera, rng, light.lamps)]
    return []


def _ride(
    make: Callable[..., list[Item]],
    plots: _Plots,
    street: Street,
    camera: Camera,
    rng: np.random.Generator,
) -> list[Item]:
    """Return a two-wheeler on the road, or parked on a sidewalk."""
    ridden = rng.random() < 0.65
    z = _distance(rng, street.near + 1.0, 14 if ridden else 11)
    x = rng.uniform(street.left, street.right)
    if not ridden:
        x = rng.choice([street.left - 0.9, street.right + 0.9])
    if not plots.take((x, z), 0.9, 0.4):
        return []
    return make((x, z), camera, rng, ridden)


def _walk(plots: _Plots, street: Street, camera: Camera, rng: np.random.Generator) -> list[Item]:
    """Return one to three people close to each other, on a sidewalk or on the road."""
    z = _distance(rng, street.near + 0.7, 22)
    side = rng.choice([-1, 1])
    edge = street.left if side < 0 else street.right
    x = edge + side * rng.uniform(0.5, street.walk - 0.4)
    if rng.random() < 0.35:
        x = rng.uniform(street.left, street.right)
    items = []
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        place = (x + rng.normal(0, 0.5), z + rng.uniform(-0.5, 0.5))
        if plots.take(place, 0.22, 0.2):
            items.append(figures.person(place, camera, rng))
    return items
