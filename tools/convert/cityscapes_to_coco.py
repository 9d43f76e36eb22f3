"""Write the COCO annotation files of Cityscapes that mmdet's loader reads.

    python tools/convert/cityscapes_to_coco.py data/cityscapes

reads leftImg8bit/{train,val} and gtFine/{train,val} (instanceIds), and writes
annotations/instancesonly_filtered_gtFine_{train,val}.json below the same folder: eight thing classes with their
Cityscapes label ids, groups as crowd regions, images in the order of their names.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

IMAGE_ENDING = '_leftImg8bit.png'


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder with leftImg8bit and gtFine')
    parser.add_argument('--splits', nargs='+', default=['train', 'val'], help='(train val)')
    return parser.parse_args(arguments)


def convert(root: Path, split: str) -> dict:
    """Return the content of the annotation file of one split.

    Raises:
        DataError: When images or maps are missing.
    """
    from rich.progress import track

    from castkd.datasets.conversion import (
        CITYSCAPES_THINGS,
        CocoFile,
        check_map,
        cityscapes_instances,
        read_png,
    )
    from castkd.errors import DataError

    images = root / 'leftImg8bit' / split
    paths = sorted(images.glob(f'*/*{IMAGE_ENDING}'))
    if not paths:
        raise DataError(
            f'{str(images)!r} holds no CITY/*{IMAGE_ENDING}; unpack leftImg8bit_trainvaltest.zip into {str(root)!r}'
        )
    coco = CocoFile(CITYSCAPES_THINGS, f'Cityscapes instances, {split}')
    for path in track(paths, description=f'cityscapes: {split}'):
        name = path.relative_to(images)
        stem = name.name.removesuffix(IMAGE_ENDING)
        map_path = root / 'gtFine' / split / name.parent / f'{stem}_gtFine_instanceIds.png'
        instance_ids = read_png(map_path)
        check_map(map_path, instance_ids, path)
        instances = cityscapes_instances(instance_ids, str(map_path))
        coco.add(name.as_posix(), instance_ids.shape[:2], instances)
    return coco.content()


def run(options: argparse.Namespace) -> None:
    """Convert every split, then write the files."""
    from castkd.datasets.conversion import describe_coco, write_json

    contents = {split: convert(options.root, split) for split in options.splits}
    for split, content in contents.items():
        path = options.root / f'annotations/instancesonly_filtered_gtFine_{split}.json'
        write_json(path, content)
        print(f'{path}: {describe_coco(content)}')


def main() -> int:
    """Run the tool and return its exit status."""
    options = parse_arguments()
    from castkd.apis.command_line import run_tool

    return run_tool(lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
