"""How good pseudo-labels are, above rising scores and by the size of the instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from castkd.visualization.curves import png

_RATES = ('precision', 'recall')


def quality_plot(title: str, quality: Mapping[str, Any]) -> bytes | None:
    """Draw precision and recall of pseudo-labels by score threshold and by area, with the counts behind the latter.

    Args:
        title: Name of the stage that labelled.
        quality: Result of :meth:`castkd.evaluation.pseudo_quality.Reference.quality`.

    Returns:
        Content of a PNG file, or None when there is neither a pseudo-label nor a real instance.
    """
    bins = quality['by_area']
    if not bins:
        return None
    figure = Figure(figsize=(12, 3.6), layout='constrained')
    by_score, by_area = figure.subplots(1, 2)
    rows = quality['by_score']
    _draw_rates(by_score, [row['above'] for row in rows], rows)
    by_score.set(title=f'{title}: labels above a score', xlabel='score threshold')
    places = range(len(bins))
    _draw_rates(by_area, places, bins)
    by_area.set(title=f'{title}: labels by area', xlabel='area from, in pixels')
    by_area.set_xticks(places, [str(row['from']) for row in bins], fontsize='small')
    counts = by_area.twinx()
    for shift, name in ((-0.2, 'predictions'), (0.2, 'instances')):
        heights = [row[name] for row in bins]
        counts.bar([place + shift for place in places], heights, 0.4, alpha=0.25, label=name)
    counts.set_ylabel('number')
    # Small areas have few labels: nothing is hidden there.
    counts.legend(fontsize='x-small', loc='center left')
    return png(figure)


def _draw_rates(axes: Axes, places: Sequence[float], rows: Sequence[Mapping[str, Any]]) -> None:
    for name in _RATES:
        # A rate of nothing is None, a gap in the line.
        values = [float('nan') if row[name] is None else row[name] for row in rows]
        axes.plot(places, values, marker='.', label=name)
    axes.set_ylim(0, 1)
    axes.legend(fontsize='x-small', loc='upper left')
    axes.grid(alpha=0.3)
