"""The contact sheet of a recipe: which validation images it shows, and how well every prediction on it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.structures.bbox import get_box_tensor
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from torch.utils.data import Dataset

from castkd.apis.predictor import Predictor, load_predictor
from castkd.apis.student import prediction_dataset, read_config
from castkd.checks import check_number
from castkd.engine.manifest import Manifest
from castkd.engine.recipe import TRAIN, Recipe
from castkd.errors import ConfigError, near_names
from castkd.evaluation.image_quality import class_map_iou, instance_f1
from castkd.visualization.contact_sheet import IMAGE, Content, contact_sheet, encode_png

TRUTH = 'truth'
_MAX_COLUMNS = 5
_OWNER = 'report.pictures'
_DEFAULT_NUMBER = 6


@dataclass(frozen=True)
class PictureOptions:
    """What ``report.pictures`` of a recipe may say.

    Attributes:
        num: Validation images, evenly spaced; 0 for no pictures. Not together with ``best`` and ``worst``.
        best: Images on which the last stage is best, by :func:`quality`.
        worst: Images on which it is worst.
        score_thr: Predictions need a score above it, to be drawn and to be counted.
        stages: Stages with a column; None for those of the table.
    """

    num: int = _DEFAULT_NUMBER
    best: int = 0
    worst: int = 0
    score_thr: float = 0.3
    stages: Sequence[str] | None = None


def picture_options(recipe: Recipe) -> PictureOptions:
    """Return ``report.pictures`` of a recipe.

    Raises:
        ConfigError: When it has an unknown key, a wrong number, or a stage that trains nothing.
    """
    given = dict(recipe.report.get('pictures') or {})
    known = [item.name for item in fields(PictureOptions)]
    for key in given:
        if key not in known:
            raise ConfigError(f'{_OWNER}: no key {key!r}; {near_names(key, known)}')
    if given.get('best') or given.get('worst'):
        if given.get('num'):
            raise ConfigError(
                f'{_OWNER}: num={given["num"]!r} takes evenly spaced images, best and worst take ranked ones; '
                'give one or the other'
            )
        given['num'] = 0
    options = PictureOptions(**given)
    for name in ('num', 'best', 'worst'):
        check_number(_OWNER, name, getattr(options, name), low=0, integer=True)
    check_number(_OWNER, 'score_thr', options.score_thr, low=0, high=1)
    names = [stage.name for stage in recipe.stages if stage.kind == TRAIN]
    for name in options.stages or ():
        if name not in names:
            raise ConfigError(
                f'{_OWNER}.stages: no training stage {name!r}; {near_names(name, names)}'
            )
    return options


def recipe_pictures(
    recipe: Recipe, manifest: Manifest, labels: Mapping[str, str]
) -> tuple[bytes | None, str]:
    """Draw validation images with their truth and the predictions of a recipe's stages.

    Args:
        recipe: The recipe.
        manifest: Its manifest; the stages that are shown are finished.
        labels: Title by name of the stages in the table, in its order.

    Returns:
        Content of a PNG file, or None where no pictures are asked for, and a sentence on it.

    Raises:
        CastkdError: When a checkpoint or an image cannot be read.
    """
    options = picture_options(recipe)
    trained = [stage.name for stage in recipe.stages if stage.kind == TRAIN]
    shown = list(options.stages or [name for name in labels if name in trained])[-_MAX_COLUMNS:]
    if not shown or not (options.num or options.best or options.worst):
        return None, 'no pictures were asked for'
    last = _predictor(manifest, shown[-1])
    dataset = _labelled_dataset(read_config(manifest.output(shown[-1], 'config')))
    chosen, which = _choose(last, dataset, options)
    truths = [_content(dataset[index]['data_samples'], 'gt') for index in chosen]
    paths = [dataset.get_data_info(index)['img_path'] for index in chosen]
    columns: dict[str, list[Content]] = {TRUTH: truths}
    captions = {
        IMAGE: [
            f'{mark}{Path(path).name}' for mark, path in zip(chosen.values(), paths, strict=True)
        ],
        TRUTH: [_counted(truth) for truth in truths],
    }
    for name in shown:
        predictor = last if name == shown[-1] else _predictor(manifest, name)
        title = labels.get(name, name)
        columns[title] = [
            _content(sample, 'pred', options.score_thr) for sample in predictor.predict_paths(paths)
        ]
        captions[title] = [
            _judged(content, truth) for content, truth in zip(columns[title], truths, strict=True)
        ]
    images = [cv2.imread(path, cv2.IMREAD_COLOR) for path in paths]
    sheet = contact_sheet(images, columns, dataset.metainfo, captions)
    return encode_png(sheet), f'{which}; predictions with a score above {options.score_thr}'


def quality(predicted: Content, truth: Content) -> float | None:
    """Return how well a prediction fits the truth of an image, in [0, 1].

    For instances that is :func:`~castkd.evaluation.image_quality.instance_f1`, for class maps
    :func:`~castkd.evaluation.image_quality.class_map_iou`; None when there is nothing to compare.
    """
    if truth is None or predicted is None:
        return None
    if isinstance(truth, np.ndarray):
        return class_map_iou(predicted, truth)
    return instance_f1(predicted, truth)


def best_and_worst(scores: Sequence[float | None], best: int, worst: int) -> dict[int, str]:
    """Choose images by their scores.

    Args:
        scores: Score per image; an image with None is not chosen.
        best: How many of the best, at most.
        worst: How many of the worst, at most; an image is not both.

    Returns:
        ``best 1: `` and so on by index, the best first, then the worst from the very worst on. Of equal scores the
        first image comes first.
    """
    ranked = [index for index, score in enumerate(scores) if score is not None]
    good = sorted(ranked, key=lambda index: -scores[index])[:best]
    bad = sorted(set(ranked) - set(good), key=lambda index: (scores[index], index))[:worst]
    return {
        index: f'{word} {place}: '
        for word, indices in (('best', good), ('worst', bad))
        for place, index in enumerate(indices, start=1)
    }


def _predictor(manifest: Manifest, stage: str) -> Predictor:
    return load_predictor(
        manifest.output(stage, 'config'), manifest.output(stage, 'checkpoint'), device=None
    )


def _choose(
    predictor: Predictor, dataset: Dataset, options: PictureOptions
) -> tuple[dict[int, str], str]:
    """Return the images to show, by index with what stands before their names, and a sentence on the choice."""
    if options.num:
        places = np.linspace(0, len(dataset) - 1, min(options.num, len(dataset))).round()
        return {int(place): '' for place in places}, f'{len(places)} validation images'
    paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
    # One image at a time: the masks of a whole validation set would fill the memory.
    scores = [
        quality(
            _content(sample.cpu(), 'pred', options.score_thr),
            _content(dataset[index]['data_samples'], 'gt'),
        )
        for index, sample in enumerate(chain.from_iterable(predictor.batches(paths)))
    ]
    chosen = best_and_worst(scores, options.best, options.worst)
    return chosen, (
        f'{len(chosen)} of {len(dataset)} validation images: those on which the last column is best and worst, by '
        'the F1 below each prediction, averaged over overlaps of masks or boxes of 0.50 to 0.95 (class maps: mean IoU)'
    )


def _labelled_dataset(config: Config) -> Dataset:
    """Return the validation set with its labels in pixels of the image files."""
    dataset = dict(prediction_dataset(config, 'val_dataloader'))
    scope = config.get('default_scope') or 'mmdet'
    if scope == 'mmseg':
        steps = [{'type': 'LoadAnnotations'}, {'type': 'PackSegInputs'}]
    else:
        loading = [step for step in dataset['pipeline'] if 'with_bbox' in step]
        # Boxes alone, where the config reads no more.
        with_mask = not loading or any(step.get('with_mask') for step in loading)
        labels = {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': with_mask}
        steps = [
            labels,
            {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_path', 'ori_shape')},
        ]
    dataset['pipeline'] = [{'type': 'LoadImageFromFile'}, *steps]
    with DefaultScope.overwrite_default_scope(scope):
        built = DATASETS.build(dataset)
        built.full_init()
    return built


def _content(sample: Any, prefix: str, score_thr: float = 0.0) -> Content:  # noqa: ANN401
    """Return what a data sample holds to draw: a class map or instances."""
    if f'{prefix}_sem_seg' in sample:
        return sample.get(f'{prefix}_sem_seg').data.squeeze(0).cpu().numpy()
    instances = sample.get(f'{prefix}_instances')
    if instances is None:
        return None
    instances.bboxes = get_box_tensor(instances.bboxes)
    return instances[instances.scores > score_thr] if 'scores' in instances else instances


def _counted(content: Content) -> str:
    if content is None or isinstance(content, np.ndarray):
        return ''
    return f'{len(content)} instance{"" if len(content) == 1 else "s"}'


def _judged(content: Content, truth: Content) -> str:
    """Return what is said below a prediction."""
    score = quality(content, truth)
    if score is None:
        return 'nothing to compare'
    if isinstance(content, np.ndarray):
        return f'mean IoU {score:.2f}'
    return f'F1 {score:.2f}, {_counted(content)}'
