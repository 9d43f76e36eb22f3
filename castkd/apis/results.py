"""What is shown and kept when a recipe is finished."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from rich.console import Console

from castkd.apis.predictor import load_predictor
from castkd.apis.student import prediction_dataset, read_config
from castkd.checks import check_number
from castkd.engine.dry_run import StagePlan, plan_tables
from castkd.engine.manifest import DONE, Manifest
from castkd.engine.recipe import TRAIN, Recipe
from castkd.engine.storage import AtomicLocalBackend
from castkd.errors import CastkdError, ConfigError, near_names
from castkd.files import write_file
from castkd.visualization.contact_sheet import Content, contact_sheet, encode_png
from castkd.visualization.report import (
    ReportRow,
    loss_curves,
    read_scalars,
    render_report,
    result_table,
)

RESULTS, REPORT, PICTURES = 'results.json', 'report.html', 'pictures.png'
_PICTURE_OPTIONS = {'num': 6, 'score_thr': 0.3, 'stages': None}
_MAX_PICTURE_COLUMNS = 5


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
        if key not in ('rows', 'pictures'):
            raise ConfigError(f'report: no key {key!r}; {near_names(key, ("rows", "pictures"))}')
    report_rows(recipe, Manifest(recipe.work_dir))
    _picture_options(recipe)


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
        storage = AtomicLocalBackend()
        text = json.dumps(content, indent=2, default=str) + '\n'
        storage.put_text(text, recipe.work_dir / RESULTS)
        page = recipe.work_dir / REPORT
        if anew or not page.is_file():
            storage.put_text(_page(recipe, manifest, rows), page)
            print(f'report: {page}')
    return content


def report_rows(recipe: Recipe, manifest: Manifest) -> list[ReportRow]:
    """Return the rows that ``report.rows`` of the recipe asks for, as far as their stages are finished.

    Without ``report.rows`` every stage is a row.

    Raises:
        ConfigError: When a row names no stage of the recipe.
    """
    names = [stage.name for stage in recipe.stages]
    wanted = recipe.report.get('rows') or [{'stage': name} for name in names]
    rows = []
    for index, entry in enumerate(wanted):
        name = entry.get('stage')
        if name not in names:
            raise ConfigError(
                f'report.rows.{index}.stage: no stage {name!r}; {near_names(str(name), names)}'
            )
        record = manifest.stages.get(name)
        if record is None or record.state != DONE:
            continue
        row = ReportRow(
            stage=name,
            label=entry.get('label', name),
            images=record.images,
            iterations=record.iterations,
            parameters=record.parameters,
            metrics={key: _finite(value) for key, value in record.metrics.items()},
            seconds=record.seconds,
            resumed=record.resumed,
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
    curves = {}
    for stage in recipe.stages:
        content = loss_curves(stage.name, read_scalars(recipe.folder(stage.name)))
        if content is not None:
            curves[stage.name] = content
    try:
        picture, note = _pictures(recipe, manifest, rows)
    except CastkdError as error:
        # The numbers are worth a page without pictures.
        picture, note = None, f'no pictures: {error}'
    if picture is not None:
        write_file(recipe.work_dir / PICTURES, picture)
    plain = {key: v for key, v in recipe.variables.items() if isinstance(v, (int, float, str))}
    facts: dict[str, Any] = {'recipe': recipe.path, **plain}
    for record in manifest.stages.values():
        facts.update(record.versions)
    return render_report(
        str(recipe.path.stem), rows, facts=facts, curves=curves, picture=picture, picture_note=note
    )


def _pictures(
    recipe: Recipe, manifest: Manifest, rows: Sequence[ReportRow]
) -> tuple[bytes | None, str]:
    """Return the contact sheet and a sentence on it."""
    options = _picture_options(recipe)
    trained = [stage.name for stage in recipe.stages if stage.kind == TRAIN]
    labels = {row.stage: row.label for row in rows}
    shown = options['stages'] or [name for name in labels if name in trained]
    shown = shown[-_MAX_PICTURE_COLUMNS:]
    if not options['num'] or not shown:
        return None, 'no pictures were asked for'
    config = read_config(manifest.output(shown[-1], 'config'))
    samples, classes = _truth(config, options['num'])
    paths = [sample.img_path for sample in samples]
    columns: dict[str, list[Content]] = {'truth': [_content(sample, 'gt') for sample in samples]}
    for name in shown:
        predictor = load_predictor(
            manifest.output(name, 'config'), manifest.output(name, 'checkpoint')
        )
        predicted = predictor.predict_paths(paths)
        columns[labels.get(name, name)] = [
            _content(sample, 'pred', options['score_thr']) for sample in predicted
        ]
    images = [cv2.imread(path, cv2.IMREAD_COLOR) for path in paths]
    sheet = contact_sheet(images, columns, classes)
    note = f'{len(paths)} validation images; predictions with a score above {options["score_thr"]}'
    return encode_png(sheet), note


def _picture_options(recipe: Recipe) -> dict[str, Any]:
    given = dict(recipe.report.get('pictures') or {})
    for key in given:
        if key not in _PICTURE_OPTIONS:
            raise ConfigError(
                f'report.pictures: no key {key!r}; {near_names(key, _PICTURE_OPTIONS)}'
            )
    options = {**_PICTURE_OPTIONS, **given}
    check_number('report.pictures', 'num', options['num'], low=0, integer=True)
    check_number('report.pictures', 'score_thr', options['score_thr'], low=0, high=1)
    names = [stage.name for stage in recipe.stages]
    for name in options['stages'] or ():
        if name not in names:
            raise ConfigError(
                f'report.pictures.stages: no stage {name!r}; {near_names(name, names)}'
            )
    return options


def _truth(config: Config, number: int) -> tuple[list, Mapping[str, Any]]:
    """Return evenly spaced validation samples with their labels in pixels of the image file, and the classes."""
    dataset = dict(prediction_dataset(config, 'val_dataloader'))
    scope = config.get('default_scope') or 'mmdet'
    if scope == 'mmseg':
        steps = [{'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]
    else:
        masks = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True}
        steps = [masks, {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_path', 'ori_shape')}]
    dataset['pipeline'] = [{'type': 'LoadImageFromFile'}, *steps]
    with DefaultScope.overwrite_default_scope(scope):
        built = DATASETS.build(dataset)
        built.full_init()
        chosen = np.linspace(0, len(built) - 1, min(number, len(built))).round().astype(int)
        samples = [built[int(index)]['data_samples'] for index in chosen]
    return samples, built.metainfo


def _content(sample: Any, prefix: str, score_thr: float = 0.0) -> Content:  # noqa: ANN401
    """Return what a data sample holds to draw: a class map or instances."""
    if f'{prefix}_sem_seg' in sample:
        return sample.get(f'{prefix}_sem_seg').data.squeeze(0).cpu().numpy()
    instances = sample.get(f'{prefix}_instances')
    if instances is None:
        return None
    instances.bboxes = get_box_tensor(instances.bboxes)
    return instances[instances.scores > score_thr] if 'scores' in instances else instances
