"""What a training logged, as curves over its iterations: losses and metrics of a run, named scalars of several runs."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from castkd.visualization.report import is_summary

_MAX_CURVES = 10
_PANELS_PER_ROW = 3
_BAND_ALPHA = 0.2
# Losses of the inner decoder layers follow those of the last one.
_DECODER_LAYER = re.compile(r'(^|\.)d\d+\.')

Records = Sequence[Mapping]


def read_scalars(folder: Path) -> list[dict]:
    """Return what mmengine logged in a stage's folder, ordered by step.

    A resumed stage has one log per process; where they overlap, the later one counts. What validation and hooks wrote
    at a step is one record, what training wrote (with a ``loss``) another.
    """
    records: dict[tuple[int, bool], dict] = {}
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text(encoding='utf-8').splitlines():
            try:
                record = json.loads(line)
                step = int(record['step'])
            except (ValueError, KeyError, TypeError):
                # The last line of a killed process may be half a line.
                continue
            records.setdefault((step, 'loss' in record), {}).update(record)
    return [records[key] for key in sorted(records)]


def loss_curves(title: str, records: Records) -> bytes | None:
    """Draw the losses of a stage, and its validation metrics beside them.

    Args:
        title: Name of the stage.
        records: Result of :func:`read_scalars`.

    Returns:
        Content of a PNG file, or None when nothing was logged. A metric needs two validations to be a curve.
    """
    losses = _series(records, lambda name: 'loss' in name and not _DECODER_LAYER.search(name))
    metrics = _series(records, is_summary)
    metrics = {name: line for name, line in metrics.items() if len(line[0]) > 1}
    panels = [(name, lines) for name, lines in (('losses', losses), ('metrics', metrics)) if lines]
    if not panels:
        return None
    figure = Figure(figsize=(6 * len(panels), 3.6), layout='constrained')
    for axes, (name, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        for label, (steps, values) in list(lines.items())[:_MAX_CURVES]:
            axes.plot(steps, values, label=label, marker='.' if len(steps) < 20 else None)
        _finish(axes, f'{title}: {name}')
        if name == 'losses' and all(min(values) > 0 for _, values in lines.values()):
            axes.set_yscale('log')
    return png(figure)


def scalar_curves(
    runs: Mapping[str, Sequence[Records]], names: Sequence[str]
) -> tuple[bytes | None, list[str]]:
    """Draw named scalars over iterations, a panel per scalar and a line per group of runs.

    Where a group has several runs (the seeds of a stage) the line is their mean and the band one standard deviation
    (n - 1) to either side of it, at every step that a run logged; a step of a single run has no band.

    Args:
        runs: Logs (:func:`read_scalars`) of each run of a group, by the group's label.
        names: Names of scalars, such as ``cast.separation``.

    Returns:
        Content of a PNG file, None when no scalar was logged, and the names that no run logged.
    """
    panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for name in names:
        lines = {label: _mean_and_deviation(logs, name) for label, logs in runs.items()}
        panels[name] = {label: line for label, line in lines.items() if len(line[0])}
    missing = [name for name in names if not panels[name]]
    shown = {name: lines for name, lines in panels.items() if lines}
    if not shown:
        return None, missing
    columns = min(len(shown), _PANELS_PER_ROW)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(4.5 * columns, 3.4 * rows), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, lines) in zip(grid, shown.items(), strict=False):
        for label, (steps, means, deviations) in lines.items():
            (line,) = axes.plot(steps, means, label=label, marker='.' if len(steps) < 20 else None)
            axes.fill_between(
                steps,
                means - deviations,
                means + deviations,
                color=line.get_color(),
                alpha=_BAND_ALPHA,
                linewidth=0,
            )
        _finish(axes, name)
    for axes in list(figure.axes)[len(shown) :]:
        axes.remove()
    return png(figure), missing


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = io.BytesIO()
    figure.savefig(content, format='png', dpi=100)
    return content.getvalue()


def _finish(axes: Axes, title: str) -> None:
    axes.set(title=title, xlabel='iteration')
    axes.legend(fontsize='x-small')
    axes.grid(alpha=0.3)


def _mean_and_deviation(
    logs: Sequence[Records], name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return steps, means and standard deviations (NaN for a single value) of one scalar over runs."""
    values: dict[int, list[float]] = {}
    for records in logs:
        steps, found = _series(records, name.__eq__).get(name, ([], []))
        for step, value in zip(steps, found, strict=True):
            values.setdefault(step, []).append(value)
    order = sorted(values)
    means = np.array([np.mean(values[step]) for step in order])
    deviations = [np.std(v, ddof=1) if len(v) > 1 else np.nan for v in map(values.get, order)]
    return np.array(order), means, np.array(deviations)


def _series(records: Records, wanted: Callable[[str], bool]) -> dict[str, tuple[list, list]]:
    lines: dict[str, tuple[list, list]] = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, (int, float)) and math.isfinite(value) and wanted(name):
                steps, values = lines.setdefault(name, ([], []))
                steps.append(record['step'])
                values.append(value)
    return lines
