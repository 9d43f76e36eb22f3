"""What is shown and kept when a recipe is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from castkd.apis.pictures import picture_options, recipe_pictures
from castkd.engine.manifest import DONE, Manifest
from castkd.engine.plans import StagePlan, plan_tables
from castkd.engine.recipe import PSEUDO_LABEL, TRAIN, Recipe
from castkd.errors import CastkdError, ConfigError, near_names
from castkd.files import write_file
from castkd.visualization.curves import loss_curves, read_scalars, scalar_curves
from castkd.visualization.label_quality import quality_plot
from castkd.visualization.report import ReportRow, render_report, result_table

RESULTS, REPORT, PICTURES = 'results.json', 'report.html', 'pictures.png'
_REPORT_KEYS = ('rows', 'curves', 'pictures')


def show_plans(recipe: Recipe, plans: Sequence[StagePlan]) -> None:
    """Print what a recipe would do."""
    console = Console()
    for table in plan_tables(str(recipe.path), plans):
        console.print(table)


def check_report(recipe: Recipe) -> None:
    """Check the recipe's ``report`` before anything runs.

    Raises:
        ConfigError: When it names a stage or key that does not exist.
    """
    for key in recipe.report:
        if key not in _REPORT_KEYS:
            raise ConfigError(f'report: no key {key!r}; {near_names(key, _REPORT_KEYS)}')
    curves = recipe.report.get('curves') or ()
    if not isinstance(curves, (list, tuple)) or not all(isinstance(name, str) for name in curves):
        raise ConfigError(f'report.curves: must be a list of names of scalars, got {curves!r}')
    wanted_rows(recipe)
    picture_options(recipe)


def write_results(recipe: Recipe, manifest: Manifest, *, anew: bool = True) -> dict[str, Any]:
    """Print the table of the finished stages; when all are, write what remains of the recipe.

    That is ``results.json``, ``report.html`` and ``pictures.png`` in the work directory.

    Args:
        recipe: The recipe.
        manifest: Its manifest.
        anew: Whether a report that is there already is made again.

    Returns:
        ``work_dir`` and ``rows``, as in ``results.json``.

    Raises:
        DataError: When the work directory cannot be written.
    """
    rows = report_rows(recipe, manifest)
    if rows:
        Console().print(result_table(rows, str(recipe.path)))
    content = {
        'recipe': str(recipe.path),
        'variables': recipe.variables,
        'work_dir': str(recipe.work_dir),
        'rows': [_row_content(row, manifest) for row in rows],
    }
    finished = [name for name, record in manifest.stages.items() if record.state == DONE]
    if len(finished) == len(recipe.stages):
        text = json.dumps(content, indent=2, default=str) + '\n'
        write_file(recipe.work_dir / RESULTS, text)
        page = recipe.work_dir / REPORT
        if anew or not page.is_file():
            write_file(page, _page(recipe, manifest, rows))
            print(f'report: {page}')
    return content


def wanted_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """Return stage and label of the rows that ``report.rows`` of the recipe asks for; without it all stages are rows.

    Raises:
        ConfigError: When a row names no stage of the recipe.
    """
    names = [stage.name for stage in recipe.stages]
    wanted = recipe.report.get('rows') or [{'stage': name} for name in names]
    for index, entry in enumerate(wanted):
        name = entry.get('stage')
        if name not in names:
            raise ConfigError(
                f'report.rows.{index}.stage: no stage {name!r}; {near_names(str(name), names)}'
            )
    return [(entry['stage'], entry.get('label', entry['stage'])) for entry in wanted]


def report_rows(recipe: Recipe, manifest: Manifest) -> list[ReportRow]:
    """Return the rows of :func:`wanted_rows` whose stages are finished.

    Raises:
        ConfigError: When a row names no stage of the recipe.
    """
    rows = []
    for name, label in wanted_rows(recipe):
        record = manifest.stages.get(name)
        if record is None or record.state != DONE:
            continue
        row = ReportRow(
            stage=name,
            label=label,
            images=record.images,
            iterations=record.iterations,
            parameters=record.parameters,
            metrics={key: _finite(value) for key, value in record.metrics.items()},
            seconds=record.seconds,
            resumed=record.resumed,
            of_labels=record.kind == PSEUDO_LABEL,
        )
        rows.append(row)
    return rows


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _row_content(row: ReportRow, manifest: Manifest) -> dict[str, Any]:
    record = manifest.stages[row.stage]
    return {
        'stage': row.stage,
        'label': row.label,
        'images': dict(row.images),
        'iterations': row.iterations,
        'parameters': row.parameters,
        'metrics': dict(row.metrics),
        'seconds': row.seconds,
        'resumed': row.resumed,
        'outputs': record.outputs,
        'config_sha256': record.config_sha256,
    }


def _page(recipe: Recipe, manifest: Manifest, rows: Sequence[ReportRow]) -> str:
    trained = [stage.name for stage in recipe.stages if stage.kind == TRAIN]
    logs = {name: read_scalars(recipe.folder(name)) for name in trained}
    curves = {name: loss_curves(name, records) for name, records in logs.items()}
    curves['statistics'], note = statistics_curves(
        recipe, {name: [records] for name, records in logs.items()}
    )
    try:
        picture, picture_note = recipe_pictures(
            recipe, manifest, {row.stage: row.label for row in rows}
        )
    except CastkdError as error:
        # The numbers are worth a page without pictures.
        picture, picture_note = None, f'no pictures: {error}'
    if picture is not None:
        write_file(recipe.work_dir / PICTURES, picture)
    plain = {key: v for key, v in recipe.variables.items() if isinstance(v, (int, float, str))}
    facts: dict[str, Any] = {'recipe': recipe.path, **plain}
    for record in manifest.stages.values():
        facts.update(record.versions)
    return render_report(
        str(recipe.path.stem),
        rows,
        facts=facts,
        curves={name: content for name, content in curves.items() if content is not None},
        curves_note=note,
        label_quality=_quality_plots(manifest),
        picture=picture,
        picture_note=picture_note,
    )


def statistics_curves(
    recipe: Recipe, logs: Mapping[str, Sequence[Sequence[Mapping]]]
) -> tuple[bytes | None, str]:
    """Draw the scalars that ``report.curves`` of a recipe names.

    Args:
        recipe: The recipe.
        logs: Logs (:func:`~castkd.visualization.curves.read_scalars`) of every run of a stage, by the stage's name.

    Returns:
        Content of a PNG file, None when there is nothing to draw, and a sentence on names that nothing logged.
    """
    content, missing = scalar_curves(logs, recipe.report.get('curves') or ())
    if not missing:
        return content, ''
    known = {name for runs in logs.values() for run in runs for record in run for name in record}
    hint = near_names(missing[0], known)
    return content, f'report.curves: no stage logged {missing[0]!r}; {hint}'


def read_quality(manifest: Manifest, stage: str) -> dict[str, Any] | None:
    """Return how good the pseudo-labels of a finished stage are, None where they were not compared with a truth."""
    path = manifest.output(stage, 'quality')
    return None if path is None else json.loads(path.read_text(encoding='utf-8'))


def _quality_plots(manifest: Manifest) -> dict[str, bytes]:
    qualities = {name: read_quality(manifest, name) for name in manifest.stages}
    # Label maps have no scores of instances to plot over.
    plots = {
        name: quality_plot(name, found)
        for name, found in qualities.items()
        if found and 'by_score' in found
    }
    return {name: plot for name, plot in plots.items() if plot is not None}
