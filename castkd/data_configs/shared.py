"""What the data parts of instance and semantic configs share: the geometry of training, the loaders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def scale_jitter(size: tuple[int, int], low: float, high: float) -> dict:
    """Return a resize into ``size`` (width, height) times a factor drawn from [low, high]."""
    return {
        'type': 'RandomResize',
        'scale': size,
        'ratio_range': (low, high),
        'keep_ratio': True,
        'resize_type': 'castkd.Resize',
    }


def short_side_jitter(side: int, longest: int) -> dict:
    """Return a resize of the shorter side to 0.5, 0.6 ... 2 times ``side``, the longer one at most ``longest``."""
    return {
        'type': 'RandomChoiceResize',
        'scales': [side * tenths // 10 for tenths in range(5, 21)],
        'resize_type': 'castkd.ResizeShortestEdge',
        'max_size': longest,
    }


def file_size_jitter(factors: Sequence[float]) -> dict:
    """Return a resize of an image's own width and height by one of ``factors``, each as likely."""
    resizes = [[{'type': 'castkd.Resize', 'scale_factor': factor}] for factor in factors]
    return {'type': 'RandomChoice', 'transforms': resizes}


def random_geometry(resize: dict, crop: dict, flip: Mapping[str, Any] | None = None) -> list[dict]:
    """Return the transforms of training that move pixels.

    Args:
        resize: The first of them, such as :func:`scale_jitter`.
        crop: The crop that follows, of instances or of label maps.
        flip: Options of the flip; None mirrors half of the images left to right.
    """
    return [resize, crop, {'type': 'mmdet.RandomFlip', **(flip or {'prob': 0.5})}]


def color_jitter() -> dict:
    """Return the colour distortion of SSD (Liu et al., ECCV 2016), which Mask2Former's and mmseg's trainings have.

    It is mmseg's: that of mmdet leaves floats, and the strong view is made from uint8.
    """
    return {'type': 'mmseg.PhotoMetricDistortion'}


def with_photometric(pipeline: Sequence[dict], options: Mapping[str, Any]) -> list[dict]:
    """Return a pipeline whose strong views change colours with other options.

    Args:
        pipeline: It ends with ``mmdet.MultiBranch``; branches without ``castkd.StrongPhotometric`` stay as they are.
        options: Of :class:`castkd.datasets.transforms.StrongPhotometric`; what they leave out has its default.
    """
    *shared, views = pipeline
    kind = 'castkd.StrongPhotometric'
    changed = {
        key: [{'type': kind, **options} if step['type'] == kind else step for step in value]
        for key, value in views.items()
        if key not in ('type', 'branch_field')
    }
    return [*shared, {**views, **changed}]


def labeled_only(dataset: Mapping[str, Any], count: int, *, split: bool = True) -> dict[str, Any]:
    """Return the ``train_dataloader`` of a training on labelled images alone, for a config above a data set's.

    Args:
        dataset: The labelled data set, ``_base_.labeled_dataset``.
        count: Images per step of a process.
        split: Whether the labelled images are those of the split; otherwise all are.
    """
    whole = {} if split else {'split': {'fraction': 1.0}}
    return {
        'batch_size': count,
        'batch_sampler': {'counts': {'_delete_': True, 'labeled': count}},
        'dataset': {'sources': {'_delete_': True, 'labeled': dataset}, **whole},
    }


def data_parts(
    pipelines: Mapping[str, Sequence[dict]],
    datasets: Mapping[str, dict],
    validated: dict,
    evaluator: dict,
) -> dict[str, Any]:
    """Return the top-level names of a data set's config.

    Args:
        pipelines: Pipeline per name: ``labeled``, ``unlabeled``, ``pseudo``, ``test``.
        datasets: Data set per name: ``labeled`` and, where there is one, ``unlabeled`` are trained on; ``pseudo`` takes
            the place of the latter where a teacher made labels, and has no ``ann_file`` yet.
        validated: Data set of validation and test.
        evaluator: Its metric.

    Returns:
        ``<name>_pipeline`` and ``<name>_dataset`` of all, the loaders and the evaluators.
    """
    sources = {name: datasets[name] for name in ('labeled', 'unlabeled') if name in datasets}
    return {
        **{f'{name}_pipeline': list(pipeline) for name, pipeline in pipelines.items()},
        **{f'{name}_dataset': dataset for name, dataset in datasets.items()},
        'train_dataloader': {'dataset': {'sources': sources}},
        'val_dataloader': {'dataset': validated},
        'test_dataloader': {'dataset': validated},
        'val_evaluator': evaluator,
        'test_evaluator': evaluator,
    }
