"""What the seeds of a study gave: every seed's numbers, mean and deviation, and differences paired by seed."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from castkd.apis.results import read_quality, report_rows, statistics_curves, wanted_rows
from castkd.engine.manifest import DONE, Manifest, differences
from castkd.engine.recipe import TRAIN, Recipe
from castkd.errors import DataError
from castkd.visualization.curves import read_scalars
from castkd.visualization.report import (
    UNITS,
    ReportRow,
    count_text,
    images_text,
    shown_metrics,
    terminal_table,
)

# Beside the first metric, of which every seed is shown.
_MORE_METRICS = 1
_DIGITS = 6
_QUALITY = (
    'images',
    'iou_thr',
    'precision',
    'recall',
    'recall_75',
    'mean_iou',
    'area_ratio',
    'predictions',
    'instances',
)
_MAP_QUALITY = ('images', 'mIoU', 'accuracy', 'share')


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
        values: Number per seed, None where there is none.
    """

    values: Sequence[float | None]

    @property
    def present(self) -> list[float]:
        """The numbers that are there."""
        return [value for value in self.values if value is not None]

    @property
    def mean(self) -> float | None:
        """Their mean, None for no number."""
        return statistics.fmean(self.present) if self.present else None

    @property
    def deviation(self) -> float | None:
        """Their sample standard deviation (n - 1), None for less than two numbers."""
        return statistics.stdev(self.present) if len(self.present) > 1 else None

    def minus(self, other: Spread) -> Spread:
        """Return the differences, seed by seed, of the seeds that both have."""
        pairs = zip(self.values, other.values, strict=True)
        return Spread([None if None in pair else pair[0] - pair[1] for pair in pairs])

    def content(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            'values': [_rounded(value) for value in self.values],
            'n': len(self.present),
            'mean': _rounded(self.mean),
            'std': _rounded(self.deviation),
        }


@dataclass(frozen=True)
class StudyRow:
    """One row of the table: a stage over seeds.

    Attributes:
        stage: Name of the stage.
        label: What the row is called.
        runs: The row of each seed's own report, None where the stage is not finished.
    """

    stage: str
    label: str
    runs: Sequence[ReportRow | None]

    def metric(self, name: str) -> Spread:
        """Return a metric over the seeds."""
        return Spread([run and run.metrics.get(name) for run in self.runs])

    @property
    def metric_names(self) -> list[str]:
        """Names of all metrics of all seeds."""
        return list(dict.fromkeys(name for run in self.runs if run for name in run.metrics))

    def facts(self) -> list[str]:
        """Return images, iterations and parameters in words; what differs between seeds is listed."""
        found = [
            (
                images_text(run.images),
                str(run.iterations or ''),
                count_text(run.parameters),
            )
            for run in self.runs
            if run
        ]
        columns = zip(*found, strict=True) if found else [(), (), ()]
        return [' / '.join(dict.fromkeys(column)) for column in columns]


@dataclass(frozen=True)
class StudyResults:
    """Everything that the seeds of a study have finished.

    Attributes:
        recipe: The recipe, of any of the seeds.
        manifests: Manifest by seed.
        rows: Rows of the table.
    """

    recipe: Recipe
    manifests: Mapping[int, Manifest]
    rows: Sequence[StudyRow]

    @property
    def metrics(self) -> dict[str, str]:
        """Heading by name of the metrics in the table; every seed is shown of the first."""
        runs = [run.metrics for row in self.rows for run in row.runs if run]
        return dict(list(shown_metrics(runs).items())[: 1 + _MORE_METRICS])

    def content(self) -> dict[str, Any]:
        """Return all numbers for JSON: seeds, rows, time of the stages, quality of the pseudo-labels, versions."""
        first = next(iter(self.metrics), None)
        records = {seed: manifest.stages for seed, manifest in self.manifests.items()}
        versions: dict[str, list[str]] = {}
        for record in (record for stages in records.values() for record in stages.values()):
            for package, version in record.versions.items():
                if version not in versions.setdefault(package, []):
                    versions[package].append(version)
        return {
            'recipe': str(self.recipe.path),
            'variables': {k: v for k, v in self.recipe.variables.items() if k != 'seed'},
            'seeds': list(self.manifests),
            'metric': first,
            'rows': [self._row_content(row, first) for row in self.rows],
            'stages': {stage.name: self._stage_content(stage.name) for stage in self.recipe.stages},
            'versions': {package: ' / '.join(found) for package, found in versions.items()},
        }

    def _row_content(self, row: StudyRow, first: str | None) -> dict[str, Any]:
        runs = [run for run in row.runs if run]
        content = {
            'stage': row.stage,
            'label': row.label,
            'images': _common([dict(run.images) for run in runs]),
            'iterations': _common([run.iterations for run in runs]),
            'parameters': _common([run.parameters for run in runs]),
            'metrics': {name: row.metric(name).content() for name in row.metric_names},
        }
        if row is not self.rows[0]:
            content['difference'] = self.difference(row, first).content()
        return content

    def _stage_content(self, name: str) -> dict[str, Any]:
        records = [manifest.stages.get(name) for manifest in self.manifests.values()]
        done = [record if record and record.state == DONE else None for record in records]
        content: dict[str, Any] = {
            'seconds': [record and record.seconds for record in done],
            'resumed': [record and record.resumed for record in done],
        }
        qualities = [read_quality(manifest, name) for manifest in self.manifests.values()]
        if any(qualities):
            content['pseudo_labels'] = [found and _short_quality(found) for found in qualities]
        return content

    def difference(self, row: StudyRow, metric: str | None) -> Spread:
        """Return how much a row is above the first one, paired by seed."""
        if metric is None:
            return Spread([None] * len(self.manifests))
        return row.metric(metric).minus(self.rows[0].metric(metric))

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and texts of the table."""
        names = self.metrics or {'': 'AP'}
        first, *more = names
        heading = names[first]
        headings = ['row', 'images', 'steps', 'params']
        headings += [f'{heading} seed {seed}' for seed in self.manifests]
        headings += [f'{heading} mean', 'std', 'to first row', *(names[name] for name in more)]
        rows = []
        for row in self.rows:
            values = row.metric(first)
            cells = [row.label, *row.facts(), *map(_number, values.values)]
            cells += [self._with_count(values, _number(values.mean)), _number(values.deviation)]
            difference = self.difference(row, first)
            cells.append('' if row is self.rows[0] else self._spread_text(difference, '+.3f'))
            cells += [self._spread_text(row.metric(name)) for name in more]
            rows.append(cells)
        return headings, rows

    def _with_count(self, spread: Spread, text: str) -> str:
        """Say how many seeds a number is of, where that is not all."""
        count = len(spread.present)
        return text if count == len(self.manifests) else f'{text} (n={count})'.strip()

    def _spread_text(self, spread: Spread, form: str = '.3f') -> str:
        text = _number(spread.mean, form)
        if spread.deviation is not None:
            text += f' ± {spread.deviation:.3f}'
        return self._with_count(spread, text)

    def table(self) -> Table:
        """Return the table for the terminal."""
        headings, rows = self.cells()
        title = str(self.recipe.path)
        return terminal_table(title, headings, rows, images_width=10, caption=UNITS)

    def markdown(self) -> str:
        """Return the table as Markdown, with a line on what it is of."""
        headings, rows = self.cells()
        variables = [
            f'{name}={value}'
            for name, value in self.recipe.variables.items()
            if name != 'seed' and isinstance(value, (int, float, str))
        ]
        seeds = ', '.join(map(str, self.manifests))
        lines = [
            f'`{self.recipe.path}`, seeds {seeds}; {", ".join(variables)}'.rstrip('; '),
            '',
            '| ' + ' | '.join(headings) + ' |',
            '|' + '---|' * len(headings),
            *('| ' + ' | '.join(cell.replace('|', '\\|') for cell in row) + ' |' for row in rows),
            '',
            UNITS,
            'std: standard deviation (n - 1). To first row: mean and deviation of the differences, paired by seed.',
        ]
        return '\n'.join(lines) + '\n'

    def curves(self) -> tuple[bytes | None, str]:
        """Draw what ``report.curves`` names, mean and deviation over seeds; the result of :func:`statistics_curves`."""
        folders = [manifest.work_dir for manifest in self.manifests.values()]
        logs = {
            stage.name: [read_scalars(folder / stage.name) for folder in folders]
            for stage in self.recipe.stages
            if stage.kind == TRAIN
        }
        return statistics_curves(self.recipe, logs)


def collect(recipe: Recipe, folders: Mapping[int, Path]) -> StudyResults:
    """Read what the seeds of a study have finished.

    Args:
        recipe: The recipe, of any of the seeds.
        folders: Work directory by seed.

    Raises:
        DataError: When a manifest is damaged, or two seeds were trained with configs that differ in more than the seed.
    """
    manifests = {seed: Manifest.load(folder) for seed, folder in folders.items()}
    _check_same_config(recipe, manifests)
    found = [
        {(row.stage, row.label): row for row in report_rows(recipe, manifest)}
        for manifest in manifests.values()
    ]
    rows = [
        StudyRow(stage, label, [seed.get((stage, label)) for seed in found])
        for stage, label in wanted_rows(recipe)
    ]
    return StudyResults(recipe, manifests, rows)


def _check_same_config(recipe: Recipe, manifests: Mapping[int, Manifest]) -> None:
    for stage in recipe.stages:
        texts = {
            seed: manifest.work_dir / f'{stage.name}.config.json'
            for seed, manifest in manifests.items()
            if stage.name in manifest.stages and manifest.stages[stage.name].state == DONE
        }
        texts = {seed: path for seed, path in texts.items() if path.is_file()}
        first = next(iter(texts), None)
        for seed, path in texts.items():
            pairs = differences(
                texts[first].read_text(encoding='utf-8'), path.read_text(encoding='utf-8')
            )
            for key, (one, other) in pairs.items():
                if _without_seed(one, first) != _without_seed(other, seed):
                    raise DataError(
                        f'seeds {first} and {seed} trained stage {stage.name!r} with different configs: {key} '
                        f'({one} and {other}); use one --work-dir per config, or remove '
                        f'{str(manifests[seed].work_dir / stage.name)!r} and make it again'
                    )


def _without_seed(value: str, seed: int) -> str:
    """Return a value without the seed, which may stand anywhere in it as a number of its own."""
    return re.sub(rf'(?<![\d.]){seed}(?!\d|\.\d)', '{seed}', value)


def _short_quality(quality: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quality of pseudo-labels with few digits and without COCO's sizes, which the areas refine."""
    if 'mIoU' in quality:
        per_class = {name: _rounded(value) for name, value in quality['IoU'].items()}
        return {**{name: _rounded(quality[name]) for name in _MAP_QUALITY}, 'IoU': per_class}
    rows = {
        key: [{name: _rounded(value) for name, value in row.items()} for row in quality[key]]
        for key in ('by_score', 'by_area')
    }
    # Labels made by an earlier version were not compared in all of these.
    return {**{name: _rounded(quality[name]) for name in _QUALITY if name in quality}, **rows}


def _common(values: Sequence[Any]) -> Any:  # noqa: ANN401 - numbers or dicts of them
    """Return the one value that all seeds have, else the list of them."""
    return values[0] if values and all(value == values[0] for value in values) else list(values)


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else round(value, _DIGITS)


def _number(value: float | None, form: str = '.3f') -> str:
    return '' if value is None or not math.isfinite(value) else f'{value:{form}}'
