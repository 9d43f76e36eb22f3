r"""Draw labelled/unlabelled splits and write them with a checksum.

    python tools/make_splits.py data/cityscapes/leftImg8bit/train --fractions 0.05 0.1 0.3 \
        --seeds 0 1 2 --out data/splits/cityscapes
    python tools/make_splits.py data/nuclei128/train.json --counts 20 --lists mine.txt --out data/splits/nuclei
    python tools/make_splits.py data/VOCdevkit/VOC2012/JPEGImages --fractions 0.125 \
        --among data/VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt --out data/splits/voc

Labelled images of one seed are nested: those of a smaller fraction are among those of a larger one. A list
is a text file with one labelled image per line. A training reads a file as
``split=dict(file='data/splits/cityscapes/fraction0.1_seed0.json')``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from castkd.datasets.splits import Split


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='image folder, or COCO annotation file')
    parser.add_argument(
        '--among',
        type=Path,
        help='file with one image per line: the others of the folder are in no split',
    )
    parser.add_argument(
        '--fractions', type=float, nargs='+', default=[], help='labelled shares in (0, 1]'
    )
    parser.add_argument(
        '--counts', type=int, nargs='+', default=[], help='numbers of labelled images'
    )
    parser.add_argument(
        '--lists', type=Path, nargs='+', default=[], help='files with one labelled image per line'
    )
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='seeds of fractions and counts'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the split files')
    options = parser.parse_args(arguments)
    if not (options.fractions or options.counts or options.lists):
        parser.error('give at least one of --fractions, --counts, --lists')
    return options


def read_names(images: Path) -> list[str]:
    """Return the image names of a folder or COCO file."""
    from castkd.datasets.splits import list_images
    from castkd.errors import DataError, in_words

    if images.suffix.lower() != '.json':
        return list_images(images)
    try:
        return [
            image['file_name'] for image in json.loads(images.read_text(encoding='utf-8'))['images']
        ]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f'{images}: is not a COCO annotation file ({in_words(error)}); check the path'
        ) from error


def make_splits(options: argparse.Namespace) -> dict[str, Split]:
    """Return the splits by file name."""
    from castkd.datasets.splits import draw_split, split_from_list

    names = read_names(options.images)
    if options.among is not None:
        names = split_from_list(names, options.among).labeled
    splits = {f'{path.stem}.json': split_from_list(names, path) for path in options.lists}
    for seed in options.seeds:
        for fraction in options.fractions:
            splits[f'fraction{fraction}_seed{seed}.json'] = draw_split(names, fraction, seed=seed)
        for count in options.counts:
            splits[f'count{count}_seed{seed}.json'] = draw_split(names, count=count, seed=seed)
    return splits


def print_table(splits: dict[str, Split], folder: Path) -> None:
    """Print what was written."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f'splits in {folder}')
    for heading in ('file', 'labelled', 'unlabelled', 'checksum'):
        table.add_column(heading, overflow='fold')
    for name, split in splits.items():
        table.add_row(name, str(len(split.labeled)), str(len(split.unlabeled)), split.checksum[:12])
    Console().print(table)


def run(options: argparse.Namespace) -> None:
    """Make the splits; nothing is written unless all can be made."""
    from castkd.datasets.splits import write_split

    splits = make_splits(options)
    for name, split in splits.items():
        write_split(split, options.out / name)
    print_table(splits, options.out)


def main() -> int:
    """Run the tool and return its exit status."""
    options = parse_arguments()
    from castkd.apis.command_line import run_tool

    return run_tool(lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
