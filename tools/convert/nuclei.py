"""Make the nuclei data sets from stage1_train of the 2018 Data Science Bowl.

    python tools/convert/nuclei.py stage1_train --out data

stage1_train holds ID/images/*.png and ID/masks/*.png, one mask per nucleus. Written are, with COCO annotation files
that have the one class `nucleus`:

    data/nuclei/{train,val,test}    whole images, named by their place in the order of the MD5 of their IDs; the
                                    first 100 are the test set, the next 100 the validation set
    data/nuclei128/{train,val}      128 x 128 tiles of them without resampling, INDEX_Y_X.png: at most 4 of an
                                    image, each with 2 to 40 nuclei
    data/nuclei128/{train,val}_{cells,stained}.json    the tiles that are dark and grey, and the coloured ones
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

HELD_OUT = {'test': 100, 'val': 100}
LEAST_PIXELS = 5
TILE = 128
LEAST_PIXELS_IN_TILE = 20
NUCLEI_IN_TILE = (2, 40)
TILES_PER_IMAGE = 4
DESCRIPTION = 'Nuclei, 2018 Data Science Bowl stage 1 (BBBC038), CC0'


class Sample(NamedTuple):
    """An image with its nuclei.

    Attributes:
        index: Place of its ID in the MD5 order.
        image: (H, W) or, where it has colour, (H, W, 3) BGR; uint8.
        masks: One (H, W) bool mask per nucleus.
    """

    index: int
    image: np.ndarray
    masks: list[np.ndarray]


class Tile(NamedTuple):
    """A square cut out of a sample.

    Attributes:
        name: File name.
        image: (128, 128) or (128, 128, 3) uint8.
        masks: One (128, 128) bool mask per nucleus that belongs to it.
    """

    name: str
    image: np.ndarray
    masks: list[np.ndarray]

    @property
    def kind(self) -> str | None:
        """``stained`` with colour, ``cells`` when grey and dark, otherwise None."""
        if self.image.ndim == 3:
            return 'stained'
        return 'cells' if self.image.mean() <= 127 else None


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='folder stage1_train')
    parser.add_argument(
        '--out', type=Path, default=Path('data'), help='parent of the new folders (data)'
    )
    return parser.parse_args(arguments)


def ordered_folders(source: Path) -> list[Path]:
    """Return the folders of all images in the order of the MD5 of their IDs.

    Raises:
        DataError: When there are no more than the held-out images.
    """
    from castkd.errors import DataError

    folders = [path.parent for path in source.glob('*/images')]
    if len(folders) <= sum(HELD_OUT.values()):
        raise DataError(
            f'{str(source)!r} holds {len(folders)} folders with images, more than {sum(HELD_OUT.values())} are needed; '
            'unpack stage1_train.zip there'
        )
    return sorted(folders, key=lambda path: hashlib.md5(path.name.encode()).hexdigest())


def split_of(index: int) -> str:
    """Return the name of the split that an index belongs to."""
    for split, count in HELD_OUT.items():
        if index < count:
            return split
        index -= count
    return 'train'


def read_sample(folder: Path, index: int) -> Sample:
    """Read an image and its masks; masks of fewer than 5 pixels are dropped.

    Raises:
        DataError: When a file is missing, damaged, or a mask has another size than the image.
    """
    from castkd.datasets.conversion import read_png
    from castkd.errors import DataError

    paths = sorted(folder.glob('images/*.png'))
    if len(paths) != 1:
        raise DataError(
            f'{str(folder / "images")!r} holds {len(paths)} PNG files instead of one; fetch it again'
        )
    image = read_png(paths[0])
    if image.ndim == 3:
        image = image[..., :3]
        if (image == image[..., :1]).all():
            image = np.ascontiguousarray(image[..., 0])
    masks = []
    for path in sorted(folder.glob('masks/*.png')):
        pixels = read_png(path)
        mask = (pixels if pixels.ndim == 2 else pixels[..., :3].max(-1)) > 0
        if mask.shape != image.shape[:2]:
            raise DataError(
                f'{str(path)!r} is {mask.shape[0]} x {mask.shape[1]}, its image {image.shape[0]} x {image.shape[1]}; '
                'fetch it again'
            )
        if mask.sum() >= LEAST_PIXELS:
            masks.append(mask)
    return Sample(index, image, masks)


def tiles_of(sample: Sample) -> Iterator[Tile]:
    """Cut a sample into tiles on a grid from the top left, in an order that its index decides."""
    height, width = sample.image.shape[:2]
    corners = [
        (y, x) for y in range(0, height - TILE + 1, TILE) for x in range(0, width - TILE + 1, TILE)
    ]
    kept = 0
    for place in np.random.default_rng(sample.index).permutation(len(corners)):
        y, x = corners[place]
        window = (slice(y, y + TILE), slice(x, x + TILE))
        masks = [mask[window] for mask in sample.masks if _belongs(mask[window], mask)]
        if NUCLEI_IN_TILE[0] <= len(masks) <= NUCLEI_IN_TILE[1]:
            kept += 1
            yield Tile(f'{sample.index:04d}_{y:04d}_{x:04d}.png', sample.image[window], masks)
        if kept == TILES_PER_IMAGE:
            return


def _belongs(part: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether a nucleus belongs to a tile that holds ``part`` of it: 20 pixels and a quarter."""
    return part.sum() >= LEAST_PIXELS_IN_TILE and 4 * part.sum() >= whole.sum()


def subset(content: dict, names: set[str]) -> dict:
    """Return the part of an annotation file that is about the named images; ids stay as they are."""
    images = [image for image in content['images'] if image['file_name'] in names]
    ids = {image['id'] for image in images}
    annotations = [item for item in content['annotations'] if item['image_id'] in ids]
    return {**content, 'images': images, 'annotations': annotations}


def convert(source: Path, whole: Path, tiled: Path) -> list[str]:
    """Write both data sets and return one line about each annotation file.

    Args:
        source: Folder stage1_train.
        whole: Empty folder for the whole images.
        tiled: Empty folder for the tiles.
    """
    from rich.progress import track

    from castkd.datasets.conversion import CocoFile, Instance, write_json, write_png

    images = CocoFile({1: 'nucleus'}, DESCRIPTION)
    tiles = {split: CocoFile({1: 'nucleus'}, DESCRIPTION) for split in ('train', 'val')}
    names: dict[str, set[str]] = {}
    for folder in [whole / 'test', *(root / split for root in (whole, tiled) for split in tiles)]:
        folder.mkdir()
    for index, folder in enumerate(track(ordered_folders(source), description='nuclei')):
        split, sample = split_of(index), read_sample(folder, index)
        name = f'{index:04d}.png'
        write_png(whole / split / name, sample.image)
        nuclei = [Instance(1, mask) for mask in sample.masks]
        images.add(name, sample.image.shape[:2], nuclei, image_id=index)
        names.setdefault(split, set()).add(name)
        for tile in tiles_of(sample) if split in tiles else ():
            write_png(tiled / split / tile.name, tile.image)
            tiles[split].add(tile.name, (TILE, TILE), [Instance(1, mask) for mask in tile.masks])
            names.setdefault(f'{split}_{tile.kind}', set()).add(tile.name)
    contents = {
        whole / f'{split}.json': subset(images.content(), names[split])
        for split in ('train', 'val', 'test')
    }
    for split, coco in tiles.items():
        contents[tiled / f'{split}.json'] = coco.content()
        for kind in ('cells', 'stained'):
            part = subset(coco.content(), names.get(f'{split}_{kind}', set()))
            contents[tiled / f'{split}_{kind}.json'] = part
    for path, content in contents.items():
        write_json(path, content)
    return [
        f'{path.name}: {len(content["images"])} images, {len(content["annotations"])} nuclei'
        for path, content in contents.items()
    ]


def run(options: argparse.Namespace) -> None:
    """Write both data sets, or neither."""
    from castkd.datasets.conversion import new_folder

    with (
        new_folder(options.out / 'nuclei') as whole,
        new_folder(options.out / 'nuclei128') as tiled,
    ):
        lines = convert(options.source, whole, tiled)
    print('\n'.join(lines))


def main() -> int:
    """Run the tool and return its exit status."""
    options = parse_arguments()
    from castkd.apis.command_line import run_tool

    return run_tool(lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
