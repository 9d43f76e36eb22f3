"""Write the COCO annotation files of the ADE20K instance track that mmdet's loader reads.

    python tools/convert/ade20k_to_coco.py data/ADEChallengeData2016

reads images/{training,validation} and annotations_instance/{training,validation} (red = category from 1 to 100,
green = number of the instance), and writes ade20k_instance_{train,val}.json into the same folder. Category ids are
those of the benchmark; image ids are the numbers in the file names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

if TYPE_CHECKING:
    from castkd.datasets.conversion import Instance

FOLDERS = {'train': 'training', 'val': 'validation'}


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder with images and annotations_instance')
    return parser.parse_args(arguments)


def instances_of(
    path: Path, image: Path, categories: Mapping[int, str]
) -> tuple[tuple[int, int], list[Instance]]:
    """Return size (height, width) and objects of the annotation PNG of an image.

    Raises:
        DataError: When the file is missing, is not of the instance track, or has another size than its image.
    """
    from castkd.datasets.conversion import Instance, check_map, read_png
    from castkd.errors import DataError

    pixels = read_png(path)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise DataError(
            f'{str(path)!r} is no 8-bit RGB image; take it from annotations_instance.tar'
        )
    check_map(path, pixels, image, channels=3)
    category, number = pixels[..., 2].astype(int), pixels[..., 1].astype(int)
    keys = np.where(number > 0, 256 * category + number, 0)
    instances = []
    for key in np.unique(keys[keys > 0]).tolist():
        if key // 256 not in categories:
            raise DataError(
                f'{str(path)!r} has category {key // 256}, the benchmark has 1 to {len(categories)}; '
                'take it from annotations_instance.tar'
            )
        instances.append(Instance(key // 256, keys == key))
    return pixels.shape[:2], instances


def convert(root: Path, split: str) -> dict:
    """Return the content of the annotation file of one split.

    Raises:
        DataError: When images or annotations are missing.
    """
    from mmdet.datasets.ade20k import ADE20KInstanceDataset
    from rich.progress import track

    from castkd.datasets.conversion import CocoFile
    from castkd.errors import DataError

    images = root / 'images' / FOLDERS[split]
    paths = sorted(images.glob('ADE_*.jpg'))
    if not paths:
        raise DataError(
            f'{str(images)!r} holds no ADE_*.jpg; unpack ADEChallengeData2016.zip so that {str(root)!r} is its folder'
        )
    categories = dict(enumerate(ADE20KInstanceDataset.METAINFO['classes'], start=1))
    coco = CocoFile(categories, f'ADE20K instance track, {split}')
    for path in track(paths, description=f'ADE20K: {split}'):
        annotation = root / 'annotations_instance' / FOLDERS[split] / f'{path.stem}.png'
        size, instances = instances_of(annotation, path, categories)
        coco.add(path.name, size, instances, image_id=int(path.stem.rpartition('_')[2]))
    return coco.content()


def run(options: argparse.Namespace) -> None:
    """Convert both splits, then write the files."""
    from castkd.datasets.conversion import describe_coco, write_json

    contents = {split: convert(options.root, split) for split in FOLDERS}
    for split, content in contents.items():
        path = options.root / f'ade20k_instance_{split}.json'
        write_json(path, content)
        print(f'{path}: {describe_coco(content)}')


def main() -> int:
    """Run the tool and return its exit status."""
    options = parse_arguments()
    from castkd.apis.command_line import run_tool

    return run_tool(lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
