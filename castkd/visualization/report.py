"""What a recipe gave: a table for the terminal and a page that takes curves and pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader
from rich import box
from rich.table import Table

# Last part of a metric's name -> heading, in the order of the columns. Without % it is a number in [0, 1].
_HEADINGS = {
    'segm_mAP': 'mask AP',
    'segm_mAP_50': 'mask AP50',
    'bbox_mAP': 'box AP',
    'mAP': 'AP',
    'AP': 'AP',
    'AP@50': 'AP50',
    'AP50': 'AP50',
    'mIoU': 'mIoU %',
    'mAcc': 'mAcc %',
    'precision': 'prec.',
    'recall': 'recall',
}
# Evaluators whose average precision is not that of COCO beside it.
_EVALUATORS = {'cityscapes': 'Cityscapes'}
_MAX_COLUMNS = 4
UNITS = 'Scores are numbers from 0 to 1; where the heading has a %, from 0 to 100.'
_RESUMED = '+ resumed: the time of all processes; one that was killed counts until its last file'


@dataclass(frozen=True)
class ReportRow:
    """One row of the table: one stage.

    Attributes:
        stage: Name of the stage.
        label: What the row is called.
        images: Number of images per source of its training data.
        iterations: Training iterations.
        parameters: Parameters of the trained network.
        metrics: Number per metric name of the last validation; None for what could not be computed.
        seconds: Wall time of all processes that worked on the stage.
        resumed: How often the stage was taken up again; ``seconds`` of a killed process end with its last file.
        of_labels: Whether the stage labelled images: all its metrics are numbers in [0, 1], mIoU too.
    """

    stage: str
    label: str
    images: Mapping[str, int] = field(default_factory=dict)
    iterations: int = 0
    parameters: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    resumed: int = 0
    of_labels: bool = False

    def shown(self, name: str, heading: str) -> float | None:
        """Return a metric in the unit of its heading."""
        value = self.metrics.get(name)
        return 100 * value if value is not None and self.of_labels and '%' in heading else value


def result_table(rows: Sequence[ReportRow], title: str) -> Table:
    """Return the table for the terminal."""
    headings, cells = table_cells(rows)
    return terminal_table(title, headings, cells, images_width=14, caption=_caption(rows))


def _caption(rows: Sequence[ReportRow]) -> str:
    """Return what has to be known about the numbers of a table."""
    return '\n'.join([UNITS, _RESUMED] if any(row.resumed for row in rows) else [UNITS])


def terminal_table(
    title: str,
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    *,
    images_width: int,
    caption: str | None = None,
) -> Table:
    """Return a table whose first two columns are a row's name and its images, the others numbers.

    Args:
        title: Line above it.
        headings: Heading per column; those of numbers are broken at spaces.
        cells: Texts per row.
        images_width: Characters that the images get at least, in a narrow terminal.
        caption: Line below it.
    """
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(headings[0], min_width=10, overflow='fold')
    table.add_column(headings[1], min_width=images_width)
    for heading in headings[2:]:
        table.add_column(heading.replace(' ', '\n'), justify='right')
    for row in cells:
        table.add_row(*row)
    return table


def table_cells(rows: Sequence[ReportRow]) -> tuple[list[str], list[list[str]]]:
    """Return headings and texts of the table."""
    names = shown_metrics(row.metrics for row in rows)
    headings = ['stage', 'images', 'steps', 'params', *names.values(), 'time']
    cells = []
    for row in rows:
        numbers = [_metric_text(row.shown(name, heading)) for name, heading in names.items()]
        cells.append(
            [
                row.label,
                images_text(row.images),
                str(row.iterations) if row.iterations else '',
                count_text(row.parameters),
                *numbers,
                duration_text(row.seconds) + ('+' if row.resumed else ''),
            ]
        )
    return headings, cells


def shown_metrics(metrics: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """Choose the metrics that the table shows.

    Args:
        metrics: Metrics of every row.

    Returns:
        Heading per metric name: the known summary numbers, or the first few when none is known.
    """
    names = list(dict.fromkeys(name for row in metrics for name in row))
    order = list(_HEADINGS)
    known = [name for name in names if is_summary(name)]
    known.sort(key=lambda name: order.index(name.split('/')[-1]))
    if not known:
        return {name: name for name in names[:_MAX_COLUMNS]}
    return {name: _heading(name) for name in known[:_MAX_COLUMNS]}


def _heading(name: str) -> str:
    evaluator, _, metric = name.rpartition('/')
    return ' '.join(filter(None, [_EVALUATORS.get(evaluator), _HEADINGS[metric]]))


def duration_text(seconds: float) -> str:
    """Return a duration for people: ``45 s``, ``12 min 5 s``, ``3 h 20 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f'{seconds} s'
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f'{minutes} min {seconds} s'
    hours, minutes = divmod(minutes, 60)
    return f'{hours} h {minutes} min'


def is_summary(name: str) -> bool:
    """Tell whether a metric is one of the summary numbers that tables and curves show."""
    return name.split('/')[-1] in _HEADINGS


def with_unit(name: str) -> str:
    """Return a metric's name, with its unit when that is percent."""
    return f'{name} %' if _HEADINGS.get(name.split('/')[-1], '').endswith('%') else name


def render_report(
    title: str,
    rows: Sequence[ReportRow],
    *,
    facts: Mapping[str, object],
    curves: Mapping[str, bytes],
    curves_note: str = '',
    label_quality: Mapping[str, bytes] | None = None,
    picture: bytes | None = None,
    picture_note: str = '',
) -> str:
    """Return the page, with everything inside it.

    Args:
        title: Headline.
        rows: Rows of the table.
        facts: What else there is to know (seed, versions), by name.
        curves: PNG per stage.
        curves_note: What is said below the curves.
        label_quality: PNG per stage that labelled images and was compared with a ground truth.
        picture: PNG of the contact sheet.
        picture_note: What is said below it, or in its place.
    """
    headings, cells = table_cells(rows)
    environment = Environment(loader=PackageLoader('castkd.visualization'), autoescape=True)
    return environment.get_template('report.html').render(
        title=title,
        caption=_caption(rows),
        headings=headings,
        cells=cells,
        costs=_costs(rows),
        facts=facts,
        curves={name: _inline(content) for name, content in curves.items()},
        curves_note=curves_note,
        label_quality={name: _inline(content) for name, content in (label_quality or {}).items()},
        picture=_inline(picture) if picture else None,
        picture_note=picture_note,
    )


def _costs(rows: Sequence[ReportRow]) -> list[tuple[str, float, str]]:
    """Return label, share of the longest and text per row that took time."""
    longest = max((row.seconds for row in rows), default=0.0)
    costs = []
    for row in rows:
        if row.seconds <= 0:
            continue
        text = duration_text(row.seconds)
        if row.iterations:
            text += f', {row.seconds / row.iterations:.2f} s per iteration'
        costs.append((row.label, 100 * row.seconds / longest, text))
    return costs


def _inline(content: bytes) -> str:
    return 'data:image/png;base64,' + base64.b64encode(content).decode()


def images_text(images: Mapping[str, int]) -> str:
    """Return a number of images per source for people: ``33 labeled + 1400 unlabeled``."""
    return ' + '.join(f'{count} {source}' for source, count in images.items())


def count_text(count: int) -> str:
    """Return a number of parameters for people: ``12.40 M``; nothing for 0."""
    if not count:
        return ''
    return f'{count / 1e6:.2f} M' if count >= 1e5 else str(count)


def _metric_text(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'
