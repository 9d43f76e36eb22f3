"""Look at the teachers before the first step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook

from castkd.checks import check_number
from castkd.errors import ConfigError, TrainingError, near_names
from castkd.hooks.common import distiller_of, is_resumed
from castkd.hooks.labelled import labelled_images, teacher_score
from castkd.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.runner import Runner
    from torch import nn


@HOOKS.register_module()
class TeacherPreflight(Hook):
    """Refuse a teacher that is not frozen, not in eval mode, or worse than it should be.

    Acts once before a training that does not resume. Reads the teachers' state after ``train()`` of the distiller, and
    their mask AP (box AP of those that predict boxes alone, mIoU of a segmentor) on the first labelled validation
    images, which is always logged. Changes and stores nothing. Loading, class mapping and input normalisation are
    checked and told by the teachers themselves.

    Args:
        num_images: Validation images to score on; 0 scores nothing.
        floor: Smallest score in [0, 1] per teacher name, or one number for every frozen teacher; None for none.
    """

    def __init__(
        self, num_images: int = 16, floor: Mapping[str, float] | float | None = None
    ) -> None:
        check_number('TeacherPreflight', 'num_images', num_images, low=0, integer=True)
        given = {} if floor is None else floor if isinstance(floor, Mapping) else {'floor': floor}
        for name, value in given.items():
            check_number('TeacherPreflight', f'floor of {name}', value, low=0, high=1)
        if given and not num_images:
            raise ConfigError('TeacherPreflight: floor needs a score; set num_images above 0')
        self.num_images = num_images
        self.floor = floor

    def before_train(self, runner: Runner) -> None:
        """Check every teacher.

        Raises:
            ConfigError: When ``floor`` names an unknown teacher, or a floor is set but nothing can be scored.
            TrainingError: When a teacher is not frozen, not in eval mode, or below its floor.
        """
        distiller = distiller_of(runner)
        if is_resumed(runner) or not distiller.teachers:
            return
        distiller.train()
        for name, teacher in distiller.teachers.items():
            check_frozen(name, teacher.model)
        floors = _floors(self.floor, distiller.teachers)
        # One process scores, all learn of it: each has to stop when one does, or the others would wait for it.
        outcome = [self._scores(runner) if is_main_process() else None]
        broadcast_object_list(outcome)
        scores, problem = outcome[0]
        if problem and floors:
            raise ConfigError(f'TeacherPreflight: floor is set but {problem}')
        if problem:
            runner.logger.warning(f'teachers are not scored before training: {problem}')
        for name, (metric, score) in scores.items():
            text = f'teacher {name!r} has {metric} {score:.3f} on the first {self.num_images} validation images'
            runner.logger.info(text)
            if score < floors.get(name, 0.0):
                raise TrainingError(
                    f'{text}, below its floor of {floors[name]:.3f}; check its checkpoint, classes, class_mapping and '
                    'image normalisation'
                )

    def _scores(self, runner: Runner) -> tuple[dict[str, tuple[str, float]], str | None]:
        """Return metric and score per teacher, and why there is none."""
        if not self.num_images:
            return {}, None
        try:
            images = list(labelled_images(runner, self.num_images))
            teachers = distiller_of(runner).teachers
            scores = {name: teacher_score(teacher, images) for name, teacher in teachers.items()}
        except ConfigError as error:
            return {}, str(error)
        if any(math.isnan(score) for _, score in scores.values()):
            return (
                {},
                f'the first {self.num_images} validation images have no object; raise num_images',
            )
        return scores, None


def check_frozen(name: str, network: nn.Module) -> None:
    """Check that nothing of a teacher's network trains.

    Raises:
        TrainingError: When a parameter requires a gradient, or a module is in train mode.
    """
    moving = [key for key, parameter in network.named_parameters() if parameter.requires_grad]
    if moving:
        raise TrainingError(
            f'teacher {name!r} is not frozen: {moving[0]} and {len(moving) - 1} more parameters require gradients; '
            'something called requires_grad_(True) on it'
        )
    training = [key or 'itself' for key, module in network.named_modules() if module.training]
    if training:
        raise TrainingError(
            f'teacher {name!r} is not in eval mode after train() of the distiller: {training[0]} and '
            f'{len(training) - 1} more modules; dropout and batch norm would make its targets random'
        )


def _floors(
    floor: Mapping[str, float] | float | None, teachers: Mapping[str, Any]
) -> dict[str, float]:
    """Return the floor per teacher name."""
    if floor is None:
        return {}
    if not isinstance(floor, Mapping):
        return {name: floor for name, teacher in teachers.items() if not teacher.moves}
    for name in floor:
        if name not in teachers:
            raise ConfigError(
                f'TeacherPreflight: floor names no teacher {name!r}; {near_names(name, teachers)}'
            )
    return dict(floor)
