"""How right a teacher's pseudo-labels are, where labels exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook

from castkd.checks import check_number
from castkd.errors import ConfigError
from castkd.evaluation import MapOverlap, PrecisionRecall
from castkd.hooks.common import distiller_of
from castkd.hooks.labelled import labelled_images
from castkd.registry import HOOKS
from castkd.semantic import IGNORE

if TYPE_CHECKING:
    from mmengine.runner import Runner

    from castkd.structures import PseudoTargets


@HOOKS.register_module()
class PseudoLabelStatistics(Hook):
    """Measure precision and recall of pseudo-labels on labelled validation images.

    Acts after the first step of a run and every ``interval`` steps, on teachers that label within the step; one that
    does not move is measured once. Reads the first ``num_images`` validation images, filters the teacher's predictions
    as training does and matches masks, or boxes of a teacher without masks, at an overlap of 0.5. Changes nothing;
    writes ``pseudo_precision/<teacher>`` and ``pseudo_recall/<teacher>`` to the visualizer's scalars and a line to the
    log; stores nothing in a checkpoint. Of label maps it writes ``pseudo_mIoU`` and ``pseudo_accuracy`` of the labelled
    pixels, and ``pseudo_share``, how many those are, in the same way.

    Args:
        interval: Steps between two measurements, at least 1.
        num_images: Validation images to measure on, at least 1.
    """

    def __init__(self, interval: int = 500, num_images: int = 16) -> None:
        check_number('PseudoLabelStatistics', 'interval', interval, low=1, integer=True)
        check_number('PseudoLabelStatistics', 'num_images', num_images, low=1, integer=True)
        self.interval = interval
        self.num_images = num_images
        self._started = False
        self._settled: set[PseudoTargets] = set()

    @master_only
    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Measure, when it is time."""
        if self._started and not self.every_n_train_iters(runner, self.interval):
            return
        self._started = True
        distiller = distiller_of(runner)
        plan = distiller.plan(distiller.last_step.index)
        for targets in dict.fromkeys(request.targets for request in plan if request.targets):
            if targets in self._settled:
                continue
            if not distiller.teachers[targets.teacher].moves:
                self._settled.add(targets)
            try:
                _log(
                    runner,
                    targets.teacher,
                    self._measure(runner, distiller, targets),
                    batch_idx + 1,
                )
            except ConfigError as error:
                self._settled.add(targets)
                runner.logger.warning(
                    f'pseudo-labels of {targets.teacher!r} are not measured: {error}'
                )

    def _measure(self, runner: Runner, distiller: Any, targets: PseudoTargets) -> dict:  # noqa: ANN401
        teacher, labeler = distiller.teachers[targets.teacher], distiller.pseudo_labeler
        masks, maps = PrecisionRecall(iou_thr=0.5), MapOverlap(IGNORE)
        for image in labelled_images(runner, self.num_images):
            result = teacher.run(labeler.request(targets), image.inputs, image.samples)
            sample = labeler(result, teacher, image.samples, image.samples).samples[0]
            height, width = sample.metainfo['img_shape'][:2]
            if isinstance(image.truth, np.ndarray):
                maps.update(sample.gt_sem_seg.data[0, :height, :width].cpu().numpy(), image.truth)
                continue
            labels, truth = sample.gt_instances, image.truth
            if 'masks' in labels:
                found, wanted = labels.masks.to_ndarray()[:, :height, :width], truth.masks
            else:
                found, wanted = labels.bboxes, truth.bboxes
            masks.update(found, labels.scores, labels.labels, wanted, truth.labels)
        numbers = masks.compute()
        return numbers if numbers['instances'] else {**numbers, **maps.compute()}


def _log(runner: Runner, teacher: str, numbers: dict, step: int) -> None:
    """Log what exists: there is no precision without a label, and no recall without an object."""
    names = ('precision', 'recall', 'mIoU', 'accuracy', 'share')
    measured = {key: numbers[key] for key in names if numbers.get(key) is not None}
    scalars = {f'pseudo_{key}/{teacher}': value for key, value in measured.items()}
    runner.visualizer.add_scalars(scalars, step=step)
    words = ', '.join(f'{key} {value:.3f}' for key, value in measured.items())
    found = f'{numbers["predictions"]} for {numbers["instances"]} objects, '
    runner.logger.info(
        f'pseudo-labels of {teacher!r} on validation images: {"" if "mIoU" in measured else found}'
        f'{words or "nothing to compare"}'
    )
