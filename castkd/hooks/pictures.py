"""Pictures of what the student learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmcv
from mmdet.structures import DetDataSample
from mmengine.dist import master_only
from mmengine.hooks import Hook

from castkd.checks import check_number
from castkd.hooks.common import distiller_of
from castkd.hooks.drawing import draw_instances, grid, paint_classes, titled, to_pixels
from castkd.registry import HOOKS
from castkd.structures import Marks, source_view

if TYPE_CHECKING:
    import numpy as np
    from mmengine.runner import Runner


@HOOKS.register_module()
class Pictures(Hook):
    """Draw the views of a step with the instances that belong to them, scores beside them.

    Acts every ``interval`` training steps and at the last one. Reads the views, labels and pseudo-labels of that step;
    changes nothing; writes ``pictures/iter_<n>.png`` below the work directory, one row per image and one column per
    view. A view that a teacher labelled shows what was accepted there; the view that learns from it shows the same
    instances or classes carried over; any other view shows its own labels, also those that a file of pseudo-labels
    gave. The places that an objective chose (:class:`~castkd.structures.Marks`) are one more column. Stores nothing in
    a checkpoint.

    Args:
        interval: Steps between pictures, at least 1.
        num_images: Rows, at least 1; a smaller batch gives fewer.
    """

    def __init__(self, interval: int = 500, num_images: int = 2) -> None:
        check_number('Pictures', 'interval', interval, low=1, integer=True)
        check_number('Pictures', 'num_images', num_images, low=1, integer=True)
        self.interval = interval
        self.num_images = num_images

    @master_only
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write the picture, when it is its turn."""
        due = self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if not due:
            return
        distiller = distiller_of(runner)
        columns = [self._column(runner, *column) for column in _views(distiller)]
        columns += [self._chosen(runner, *chosen) for chosen in _marks(distiller)]
        path = Path(runner.work_dir, 'pictures', f'iter_{batch_idx + 1}.png')
        mmcv.imwrite(grid(columns), str(path))

    def _chosen(self, runner: Runner, title: str, marks: Marks) -> list[np.ndarray]:
        view = source_view(marks.view)
        samples = [
            DetDataSample(metainfo=sample.metainfo, gt_instances=instances)
            for sample, instances in zip(
                distiller_of(runner).last_step.samples[view], marks.instances, strict=True
            )
        ]
        # mmdet takes a tuple for one colour.
        metainfo = {'classes': marks.kinds, 'palette': list(marks.palette)}
        return self._column(runner, title, view, samples, metainfo)

    def _column(
        self,
        runner: Runner,
        title: str,
        view: str,
        samples: list,
        metainfo: Mapping[str, Any] | None = None,
    ) -> list[np.ndarray]:
        distiller = distiller_of(runner)
        samples = samples[: self.num_images]
        inputs = distiller.last_step.inputs[view][: self.num_images]
        images = to_pixels(distiller.student.data_preprocessor, inputs, samples)
        metainfo = metainfo or runner.visualizer.dataset_meta or {}
        return [
            titled(_drawn(image, sample, metainfo), title)
            for image, sample in zip(images, samples, strict=True)
        ]


def _drawn(image: np.ndarray, sample: Any, metainfo: Mapping[str, Any]) -> np.ndarray:  # noqa: ANN401
    if 'gt_sem_seg' in sample:
        height, width = image.shape[:2]
        labels = sample.gt_sem_seg.data[0, :height, :width].cpu().numpy()
        image = paint_classes(image, labels, metainfo['palette'])
    return draw_instances(image, sample.get('gt_instances'), metainfo)


def _views(distiller: Any) -> Iterator[tuple[str, str, list]]:  # noqa: ANN401
    """Yield title, view and samples with instances: teachers' views and what was made of them, then the others."""
    step = distiller.last_step
    shown = set()
    for (name, teacher_view, student_view), carried in step.pseudo.items():
        result, teacher = step[name, teacher_view], distiller.teachers[name]
        samples = step.samples[teacher_view]
        accepted = distiller.pseudo_labeler(result, teacher, samples, samples).samples
        yield f'{teacher_view}: labelled by {name}', teacher_view, accepted
        yield f'{student_view}: carried from {teacher_view}', student_view, carried
        shown |= {teacher_view, student_view}
    for view, samples in step.samples.items():
        if view not in shown:
            yield view, view, samples


def _marks(distiller: Any) -> Iterator[tuple[str, Marks]]:  # noqa: ANN401
    """Yield title and places of the objectives that had a part in the step."""
    index = distiller.last_step.index
    for name, objective in distiller.objectives.items():
        if objective.weight(index):
            for marks in objective.marks():
                yield f'{marks.view}: chosen by {name}', marks
