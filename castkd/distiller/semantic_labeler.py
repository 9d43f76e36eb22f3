"""Turn a teacher's class probabilities into label maps for the student's view."""

from __future__ import annotations

from mmengine.structures import PixelData
from torch import Tensor

from castkd.checks import check_number
from castkd.datasets.transforms.geometry import relative_homography, warp_semantic
from castkd.distiller.pseudo_labeler import PseudoBatch
from castkd.errors import ConfigError
from castkd.registry import MODELS
from castkd.semantic import IGNORE, ignore_padding, padded_shape
from castkd.structures import Pass, PassResult, PseudoTargets
from castkd.teachers import Teacher


@MODELS.register_module()
class SemanticPseudoLabeler:
    """Pseudo-labels of a segmentor: the most likely class where its probability is high enough, 255 elsewhere.

    The class is decided in the teacher's view and carried to the student's with nearest sampling. Padding of either
    view, and what the teacher's view does not show, is 255.

    Args:
        score_thr: Pixels need a probability above it, in [0, 1]; 0 accepts all.

    Raises:
        ConfigError: When ``score_thr`` is out of its range.
    """

    def __init__(self, score_thr: float = 0.3) -> None:
        check_number('SemanticPseudoLabeler', 'score_thr', score_thr, low=0, high=1)
        self.score_thr = score_thr

    def request(self, targets: PseudoTargets) -> Pass:
        """Ask for predictions."""
        return Pass(targets.teacher, targets.view, 'predict', grad=False)

    def __call__(
        self, result: PassResult, teacher: Teacher, teacher_samples: list, student_samples: list
    ) -> PseudoBatch:
        """Make label maps for one batch.

        Args:
            result: Result of the teacher's run that :meth:`request` asked for.
            teacher: The teacher.
            teacher_samples: Data samples of the view that the teacher saw.
            student_samples: Data samples of the view that the student sees.

        Returns:
            Samples whose ``gt_sem_seg`` (1, H, W), int64, has the padded size of the student's view. Statistics count
            pixels: ``candidates`` (all but padding), ``accepted`` of those, ``kept`` in the student's view.

        Raises:
            ConfigError: When the teacher is no segmentor, or the views carry no geometry record.
        """
        counts = dict.fromkeys(('candidates', 'accepted', 'kept'), 0.0)
        labelled, scores = [], []
        for prediction, source, target in zip(
            result.predictions, teacher_samples, student_samples, strict=True
        ):
            found = self._accepted(prediction, teacher, source)
            height, width = source.metainfo['img_shape'][:2]
            counts['candidates'] += height * width
            counts['accepted'] += (found != IGNORE).sum().item()
            scores.append(prediction.pred_sem_seg.scores[0, :height, :width])
            sample = target.clone()
            carried = _carry(found, source, target)
            sample.gt_sem_seg = PixelData(data=carried[None])
            counts['kept'] += (carried != IGNORE).sum().item()
            labelled.append(sample)
        with_labels = [bool((sample.gt_sem_seg.data != IGNORE).any()) for sample in labelled]
        statistics = {
            **counts,
            'images_with_labels': sum(with_labels) / max(len(labelled), 1),
            'max_score': max((item.max().item() for item in scores), default=0.0),
            'mean_score': sum(item.mean().item() for item in scores) / max(len(scores), 1),
        }
        return PseudoBatch(labelled, statistics)

    def _accepted(self, prediction: object, teacher: Teacher, source: object) -> Tensor:
        """Return the label map (H, W) of the teacher's view, padding and unsure pixels ignored."""
        if 'pred_sem_seg' not in prediction:
            raise ConfigError(
                f'SemanticPseudoLabeler: teacher {teacher.name!r} predicts no label maps; give an mmseg segmentor, or '
                'use castkd.InstancePseudoLabeler'
            )
        semantic = prediction.pred_sem_seg
        labels = semantic.data[0].masked_fill(semantic.scores[0] <= self.score_thr, IGNORE)
        return ignore_padding(labels, source)


def _carry(labels: Tensor, source: object, target: object) -> Tensor:
    carried = warp_semantic(
        labels, relative_homography(source, target), padded_shape(target), IGNORE
    )
    return ignore_padding(carried, target)
