"""Street scenes on disk, in the true layout of Cityscapes.

    out_dir/leftImg8bit/{train,val}/CITY/CITY_000000_000019_leftImg8bit.png
    out_dir/gtFine/{train,val}/CITY/CITY_000000_000019_gtFine_{instanceIds,labelIds,labelTrainIds}.png
    out_dir/annotations/instancesonly_filtered_gtFine_{train,val}.json    COCO, eight thing classes
    out_dir/scenes.json                                                   what the scenes were made with

Loaders and evaluation of the real data set read them unchanged. As in Cityscapes, what is left of a hidden object may
be too little to be one: its pixels carry the label id alone and are a crowd region in the COCO file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import labels
from rich.progress import track

from castkd.checks import check_number
from castkd.datasets.conversion import (
    CITYSCAPES_THINGS,
    CocoFile,
    cityscapes_instances,
    new_folder,
    write_json,
    write_png,
)
from castkd.datasets.scenes.painter import Scene, paint_scene
from castkd.errors import DataError

#: Raised whenever the same parameters give other images.
GENERATOR_VERSION = 1
CITIES = {'train': 'linden', 'val': 'weiden'}
PARAMETERS_FILE = 'scenes.json'

_TRAIN_IDS = np.full(256, 255, dtype=np.uint8)
for _label in labels:
    if _label.id >= 0:
        _TRAIN_IDS[_label.id] = _label.trainId


def generate_scenes(
    out_dir: str | Path,
    num_train: int = 600,
    num_val: int = 100,
    size: tuple[int, int] = (128, 256),
    seed: int = 0,
    empty_fraction: float = 0.0,
) -> bool:
    """Write a data set of street scenes, all of it or nothing.

    Image i of a split depends on the seed, the split, i, the size and the empty fraction only, so a larger set begins
    with the images of a smaller one.

    Args:
        out_dir: Folder to make; its parents are made, too.
        num_train: Number of training images, at least 1.
        num_val: Number of validation images, at least 1.
        size: (height, width) of the images in pixels, at least 32 each.
        seed: Any whole number from 0.
        empty_fraction: Share of images, in [0, 1], without any object; every other image has at least one.

    Returns:
        True when the scenes were made, False when the same ones were there already.

    Raises:
        ConfigError: When an argument is out of range.
        DataError: When the folder holds something else, or cannot be written.
    """
    parameters = _check(num_train, num_val, size, seed, empty_fraction)
    if _is_there(Path(out_dir), parameters):
        return False
    with new_folder(out_dir) as folder:
        for split, count in (('train', num_train), ('val', num_val)):
            _write_split(folder, split, count, parameters)
        write_json(folder / PARAMETERS_FILE, parameters)
    return True


def make_scene(
    split: str, index: int, size: tuple[int, int], seed: int = 0, empty_fraction: float = 0.0
) -> Scene:
    """Paint one image of a data set; see :func:`generate_scenes` for the arguments."""
    attempt = 0
    while True:
        rng = np.random.default_rng([seed, list(CITIES).index(split), index, attempt])
        empty = rng.random() < empty_fraction
        scene = paint_scene(rng, size, with_objects=not empty)
        if empty or scene.instance_ids.max() >= 1000:
            return scene
        attempt += 1


def _check(
    num_train: int, num_val: int, size: tuple[int, int], seed: int, empty_fraction: float
) -> dict[str, Any]:
    """Return the parameters as they are stored, or raise."""
    owner = 'generate_scenes'
    check_number(owner, 'num_train', num_train, low=1, integer=True)
    check_number(owner, 'num_val', num_val, low=1, integer=True)
    for name, side in zip(('height', 'width'), size, strict=True):
        check_number(owner, name, side, low=32, high=8192, integer=True)
    check_number(owner, 'seed', seed, low=0, integer=True)
    check_number(owner, 'empty_fraction', empty_fraction, low=0, high=1)
    return {
        'generator_version': GENERATOR_VERSION,
        'num_train': num_train,
        'num_val': num_val,
        'size': list(size),
        'seed': seed,
        'empty_fraction': float(empty_fraction),
    }


def _is_there(out_dir: Path, parameters: dict[str, Any]) -> bool:
    """Return whether the folder holds these scenes.

    Raises:
        DataError: When it holds anything else.
    """
    cure = 'choose another folder or remove this one'
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return False
    try:
        found = json.loads((out_dir / PARAMETERS_FILE).read_text(encoding='utf-8'))
        differing = [
            f'{key}={found.get(key)} instead of {value}'
            for key, value in parameters.items()
            if found.get(key) != value
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f'generate_scenes: {str(out_dir)!r} has no readable {PARAMETERS_FILE} of generated scenes; {cure}'
        ) from error
    if differing:
        raise DataError(
            f'generate_scenes: {str(out_dir)!r} holds scenes with {", ".join(differing)}; {cure}'
        )
    return True


def _write_split(root: Path, split: str, count: int, parameters: dict[str, Any]) -> None:
    city = CITIES[split]
    images = root / 'leftImg8bit' / split / city
    truth = root / 'gtFine' / split / city
    images.mkdir(parents=True)
    truth.mkdir(parents=True)
    size, seed = tuple(parameters['size']), parameters['seed']
    coco = CocoFile(CITYSCAPES_THINGS, f'Generated street scenes, seed {seed}')
    for index in track(range(count), description=f'scenes: {split}'):
        scene = make_scene(split, index, size, seed, parameters['empty_fraction'])
        stem = f'{city}_{index:06d}_000019'
        ids = scene.instance_ids
        label_ids = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
        write_png(images / f'{stem}_leftImg8bit.png', cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR))
        write_png(truth / f'{stem}_gtFine_instanceIds.png', ids)
        write_png(truth / f'{stem}_gtFine_labelIds.png', label_ids)
        write_png(truth / f'{stem}_gtFine_labelTrainIds.png', _TRAIN_IDS[label_ids])
        name = f'{city}/{stem}_leftImg8bit.png'
        coco.add(name, size, cityscapes_instances(ids, name))
    write_json(root / f'annotations/instancesonly_filtered_gtFine_{split}.json', coco.content())
