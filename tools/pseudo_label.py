"""Label a folder of images with a trained model: instances into a COCO file, or, with a segmentor, every pixel.

A segmentor writes an index PNG and a confidence PNG per image into labels.maps/, and a JSON file that lists them. A
killed run goes on where it stopped.

python tools/pseudo_label.py CONFIG CHECKPOINT --images DIR --out labels.json
python tools/pseudo_label.py CONFIG CHECKPOINT --images DIR --out labels.json --exclude split.json --score-thr 0.6
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        'config',
        type=Path,
        help='config of a distiller or of a plain model that segments instances or pixels',
    )
    add('checkpoint', type=Path, help="a distiller's checkpoint, a plain or an exported one")
    add(
        '--images',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder of images, with its sub-folders',
    )
    add('--out', type=Path, required=True, metavar='FILE', help='JSON file to write')
    add(
        '--exclude',
        type=Path,
        metavar='FILE',
        help='images to leave out: split file (its labelled images), or text file of names',
    )
    add(
        '--include',
        type=Path,
        metavar='FILE',
        help='the only images to take: split file (its unlabelled images), or text file of names',
    )
    add_filter_options(parser)
    add('--batch-size', type=int, default=8, help='images per forward pass (%(default)s)')
    add(
        '--reference',
        type=Path,
        metavar='PATH',
        help='COCO annotations, or folder of label maps, to compare with, for looking only',
    )
    add('--no-resume', dest='resume', action='store_false', help='start anew instead of going on')
    add('--device', help='such as cpu or cuda:0 (the first GPU if there is one)')
    add('--cfg-options', nargs='+', metavar='KEY=VALUE', help='config values to change')
    return parser.parse_args(arguments)


def add_filter_options(parser: argparse.ArgumentParser) -> None:
    """Add what makes an instance a pseudo-label."""
    add = parser.add_argument
    add(
        '--score-thr',
        type=float,
        default=0.3,
        help='instances need a score above it, pixels a probability (%(default)s); label maps can be read with a '
        'higher one, score_thr of their data set',
    )
    add(
        '--mask-score-thr',
        type=float,
        default=0.0,
        help='instances need a mask score above it (%(default)s)',
    )
    add('--max-per-image', type=int, default=100, help='at most this many instances (%(default)s)')
    add(
        '--min-area', type=int, default=1, help='smaller masks are dropped, in pixels (%(default)s)'
    )
    add(
        '--overlap',
        choices=('score', 'area', 'keep'),
        default='score',
        help='who owns a pixel of several masks: higher score, smaller area, everyone (%(default)s)',
    )
    add(
        '--min-kept',
        type=float,
        default=0.0,
        help='masks that lose more than the rest of their pixels to others are dropped (%(default)s)',
    )


def print_summary(summary: dict) -> None:
    """Print what was written, and its quality when a reference was given."""
    from rich.console import Console
    from rich.table import Table

    if 'labelled_share' in summary:
        print_map_summary(summary)
        return
    counts = Table('class', 'instances', title=str(summary['out']))
    for name, count in summary['num_instances_per_class'].items():
        counts.add_row(name, str(count))
    console = Console()
    console.print(counts)
    console.print(
        f'{summary["num_images"]} images ({summary["num_images_without_instances"]} without instances, '
        f'{summary["num_excluded"]} left out), {summary["num_instances"]} instances'
    )
    quality = summary.get('quality')
    if quality is None:
        return
    title = f'against the reference, {quality["images"]} images, IoU {quality["iou_thr"]}'
    rates = {
        'precision': 'prec.',
        'recall': 'recall',
        'recall_75': 'at 0.75',
        'mean_iou': 'IoU',
        'area_ratio': 'area',
    }
    caption = 'IoU and area (to the real one, median) of what is right; recall also at IoU 0.75'
    table = Table('instances', 'found', 'real', *rates.values(), title=title, caption=caption)
    table.columns[0].no_wrap = True
    rows = [('all', quality), *quality['by_size'].items()]
    rows += [(f'{row["from"]} to {row["to"] - 1} pixels', row) for row in quality['by_area']]
    rows += [(f'score > {row["above"]}', row) for row in quality['by_score']]
    for name, row in rows:
        numbers = ['-' if row[key] is None else f'{row[key]:.3f}' for key in rates]
        table.add_row(name, str(row['predictions']), str(row['instances']), *numbers)
    console.print(table)


def print_map_summary(summary: dict) -> None:
    """Print what a segmentor wrote, and its quality when a reference was given."""
    from rich.console import Console
    from rich.table import Table

    quality = summary.get('quality') or {}
    shares = Table('class', 'share of labels', 'IoU', title=str(summary['out']))
    for name, share in summary['share_per_class'].items():
        overlap = quality.get('IoU', {}).get(name)
        shares.add_row(name, f'{share:.1%}', '-' if overlap is None else f'{overlap:.3f}')
    console = Console()
    console.print(shares)
    console.print(
        f'{summary["num_images"]} images ({summary["num_images_without_labels"]} without labels, '
        f'{summary["num_excluded"]} left out), {summary["labelled_share"]:.1%} of their pixels labelled'
    )
    if quality.get('mIoU') is not None:
        console.print(
            f'against the reference, {quality["images"]} images: mIoU {quality["mIoU"]:.3f}, accuracy '
            f'{quality["accuracy"]:.3f} of the {quality["share"]:.1%} that are labelled'
        )


def main() -> int:
    """Label the images and print a summary."""
    options = vars(parse_arguments())
    from castkd.apis.command_line import parse_cfg_options, run_tool
    from castkd.apis.pseudo_label import generate_pseudo_labels

    def label() -> None:
        options['cfg_options'] = parse_cfg_options(options['cfg_options'])
        print_summary(generate_pseudo_labels(**options))

    return run_tool(label)


if __name__ == '__main__':
    sys.exit(main())
