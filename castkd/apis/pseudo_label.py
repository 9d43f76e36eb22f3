"""Label a folder of images with a trained model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from castkd.adapters import SemanticAdapter, adapter_for
from castkd.apis.instance_labels import InstanceLabels
from castkd.apis.journal import Journal
from castkd.apis.predictor import Predictor, load_predictor
from castkd.apis.semantic_labels import SemanticLabels
from castkd.apis.student import prediction_dataset
from castkd.checkpoints import sha256
from castkd.checks import check_file, check_number
from castkd.datasets.pseudo_filter import FilterOptions
from castkd.datasets.pseudo_store import FORMAT_VERSION
from castkd.datasets.splits import IMAGE_SUFFIXES, list_images, read_split, refuse_repeated
from castkd.errors import ConfigError, DataError
from castkd.files import write_file
from castkd.version import __version__


def generate_pseudo_labels(
    config: str | Path | Config,
    checkpoint: str | Path,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    exclude: str | Path | None = None,
    include: str | Path | None = None,
    score_thr: float = 0.3,
    mask_score_thr: float = 0.0,
    max_per_image: int = 100,
    min_area: int = 1,
    overlap: str = 'score',
    min_kept: float = 0.0,
    batch_size: int = 8,
    reference: str | Path | None = None,
    resume: bool = True,
    device: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict:
    """Label images with a trained model and write a COCO file; with a segmentor, label maps and a file that lists them.

    While it runs, finished batches are kept in ``<out>.partial.jsonl``; a killed run called again with the same
    arguments goes on from there and gives the same file. The file itself appears whole, at the end.

    Args:
        config: Config of a distiller, of a plain mmdet model that predicts instance masks, or of a plain mmseg one.
        checkpoint: Its checkpoint, or an exported student.
        images: Folder, searched with its sub-folders, or a list of image files.
        out: The COCO file to write. Its annotations have ``score`` and ``mask_score`` as well; its ``info`` says which
            model and options made it. An image without any instance is in it, with no annotation. With a segmentor a
            JSON file of another form, see :mod:`castkd.datasets.pseudo_maps`; the maps are in a folder beside it.
        exclude: Images to leave out (the labelled ones): a split file, or a text file with one name per line. A name
            fits an image when one path ends with the other, whatever the extension.
        include: The only images to take, where the folder holds more than the pool: a split file (its unlabelled
            images), or a text file. Instead of ``exclude``.
        score_thr: Instances need a score above it, in [0, 1]; pixels a probability. The other options that decide
            which labels are kept are for instances only.
        mask_score_thr: Instances need a mask score above it, in [0, 1]. A model that gives no ``mask_scores`` has its
            scores taken.
        max_per_image: At most this many instances of an image, the best scores first.
        min_area: Instances with fewer pixels, after overlaps are settled, are dropped.
        overlap: Who owns a pixel that several masks claim: the higher ``score``, the smaller ``area``, or everyone
            (``keep``).
        min_kept: Instances that keep a smaller share of their own pixels, once overlaps are settled, are dropped, in
            [0, 1].
        batch_size: Images per forward pass.
        reference: COCO annotation file to compare with, or, with a segmentor, a folder of label maps whose names are
            those of the test data; for looking only, the labels do not depend on it. What is found goes into a JSON
            file beside ``out``, see :func:`quality_file`.
        resume: Whether a killed run is continued; False starts anew.
        device: Where the model runs; None takes the first GPU if there is one, else the CPU.
        cfg_options: New config values by dotted key; ``test_dataloader.num_workers`` processes read images ahead.

    Returns:
        The ``info`` of the file with ``out``, ``num_excluded`` and, with a reference, ``quality``.

    Raises:
        ConfigError: When an option, the config or the device is wrong.
        CheckpointError: When the checkpoint is missing, damaged, unsafe or of another model.
        DataError: When an image cannot be read, no image is left, or a killed run had other options.
    """
    options = FilterOptions(score_thr, mask_score_thr, max_per_image, min_area, overlap, min_kept)
    check_number('generate_pseudo_labels', 'batch_size', batch_size, low=1, integer=True)
    folder, found = find_images(images)
    names = choose_images(found, exclude, include)
    predictor = load_predictor(config, checkpoint, device, cfg_options)
    labels = _labels_of(predictor, out, names, options)
    truth = reference and labels.reference(reference, names)
    source = {
        'checkpoint_sha256': sha256(checkpoint),
        'batch_size': batch_size,
        'options': labels.options,
    }
    header = {
        'format_version': FORMAT_VERSION,
        **source,
        'model_and_pipeline': _config_digest(predictor.config),
        'images': _digest('\n'.join([str(folder.absolute()), *names])),
    }
    journal = Journal(f'{out}.partial.jsonl', header, resume)
    try:
        _label(predictor, folder, names, labels, journal, batch_size)
    finally:
        journal.close()
    labelled = [image for batch in journal.batches for image in batch]
    info = {**_origin(config, checkpoint), **source, 'image_root': str(folder)}
    content = labels.content(labelled, info)
    write_file(out, json.dumps(content))
    summary = {**content['info'], 'out': str(out), 'num_excluded': len(found) - len(names)}
    if truth:
        summary['quality'] = labels.quality(labelled, truth)
    _keep_quality(summary.get('quality'), quality_file(out))
    journal.remove()
    if not any(map(labels.count, labelled)):
        print_log(labels.nothing(summary), 'current', logging.WARNING)
    return summary


def _labels_of(
    predictor: Predictor, out: str | Path, names: Sequence[str], options: FilterOptions
) -> InstanceLabels | SemanticLabels:
    """Return what makes the labels of a model's kind."""
    if not isinstance(adapter_for(predictor.model), SemanticAdapter):
        return InstanceLabels(predictor, options)
    given, usual = asdict(options), asdict(FilterOptions(score_thr=options.score_thr))
    for name, value in given.items():
        if value != usual[name]:
            raise ConfigError(
                f'{name}={value!r} is about instances, but {type(predictor.model).__name__} labels pixels; remove it'
            )
    return SemanticLabels(predictor, out, names, options.score_thr)


def _origin(config: str | Path | Config, checkpoint: str | Path) -> dict:
    return {
        'description': 'pseudo-labels',
        'castkd_version': __version__,
        'config': str(config.filename if isinstance(config, Config) else config),
        'checkpoint': str(checkpoint),
    }


def _keep_quality(quality: Mapping[str, Any] | None, path: Path) -> None:
    """Write the quality of the labels; without one remove that of earlier labels, which would be taken for theirs."""
    if quality is None:
        path.unlink(missing_ok=True)
    else:
        write_file(path, json.dumps(quality, indent=1) + '\n')


def quality_file(out: str | Path) -> Path:
    """Return where the quality of the pseudo-labels in ``out`` is kept: ``labels.quality.json`` for ``labels.json``.

    Its content is that of :meth:`castkd.evaluation.pseudo_quality.Reference.quality`.
    """
    return Path(out).with_suffix('.quality.json')


def find_images(images: str | Path | Sequence[str | Path]) -> tuple[Path, list[str]]:
    """Return a folder and the names of images relative to it, sorted.

    Args:
        images: Folder, searched with its sub-folders, or a list of image files.

    Raises:
        DataError: When there is no image, or one is listed twice or does not exist.
    """
    if isinstance(images, (str, Path)):
        return Path(images), list_images(images)
    paths = [check_file('images', 'file', path) for path in images]
    if not paths:
        raise DataError('images: the list is empty; give a folder or at least one file')
    folder = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    names = sorted(path.absolute().relative_to(folder).as_posix() for path in paths)
    refuse_repeated('images', names)
    return folder, names


def choose_images(
    names: Sequence[str], exclude: str | Path | None = None, include: str | Path | None = None
) -> list[str]:
    """Return the names that are to be labelled.

    Args:
        names: Image names relative to their folder.
        exclude: List of images to leave out: a split file (its labelled images), or a text file with one name per line.
        include: List of the only images to take: a split file (its unlabelled images), or a text file.

    Raises:
        ConfigError: When both lists are given.
        DataError: When a list cannot be read, or no image is left.
    """
    if exclude is not None and include is not None:
        raise ConfigError('exclude and include: give one of them, not both')
    if exclude is None and include is None:
        return list(names)
    option, file = ('exclude', exclude) if include is None else ('include', include)
    whole = {_parts(name) for name in _read_names(option, file) if name}
    endings = {parts[start:] for parts in whole for start in range(len(parts))}
    wanted = include is not None
    left = [name for name in names if _is_listed(_parts(name), whole, endings) == wanted]
    if not left:
        listed = 'none of the' if wanted else 'all'
        raise DataError(
            f'{option} {str(file)!r} lists {listed} {len(names)} images; none is left to label'
        )
    return left


def _read_names(option: str, file: str | Path) -> list[str]:
    path = check_file(option, 'file', file, 'give a split file or a text file with image names')
    if path.suffix != '.json':
        return [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
    split = read_split(path)
    return list(split.labeled if option == 'exclude' else split.unlabeled)


def _parts(name: str) -> tuple[str, ...]:
    """Return the parts of an image path, without its extension."""
    path = PurePosixPath(name)
    return (path.with_suffix('') if path.suffix.lower() in IMAGE_SUFFIXES else path).parts


def _is_listed(parts: tuple[str, ...], whole: set[tuple], endings: set[tuple]) -> bool:
    return parts in endings or any(parts[start:] in whole for start in range(len(parts)))


def _config_digest(config: Config) -> str:
    """Return a hash of what decides the predictions: the model and how images are read."""
    deciding = {'model': config.model, 'pipeline': prediction_dataset(config).pipeline}
    return _digest(json.dumps(deciding, sort_keys=True, default=str))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _label(
    predictor: Predictor,
    folder: Path,
    names: Sequence[str],
    labels: InstanceLabels | SemanticLabels,
    journal: Journal,
    batch_size: int,
) -> None:
    """Label the batches that the journal does not have yet."""
    first = len(journal.batches) * batch_size
    count = sum(labels.count(image) for batch in journal.batches for image in batch)
    workers = predictor.config.test_dataloader.get('num_workers', 0)
    batches = predictor.batches([folder / name for name in names[first:]], batch_size, workers)
    columns = (
        TextColumn('labelling'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f'images, {{task.fields[count]}} {labels.unit}'),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(
            '', total=len(names), completed=min(first, len(names)), count=count
        )
        for start, samples in zip(range(first, len(names), batch_size), batches, strict=True):
            batch = [
                labels.record(name, sample)
                for name, sample in zip(names[start : start + batch_size], samples, strict=True)
            ]
            journal.append(batch)
            count += sum(map(labels.count, batch))
            progress.update(task, advance=len(batch), count=count)
