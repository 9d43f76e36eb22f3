"""No training from the weights of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from castkd.checkpoints import STUDENT_PREFIX, load_strict
from castkd.errors import CheckpointError
from castkd.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.runner import Runner

# What a stage may have and the one before it not, and the other way round.
_OF_ONE_STAGE = ('objectives.', 'teachers.', 'step')


@HOOKS.register_module()
class FirstWeights(Hook):
    """Refuse a ``load_from`` checkpoint that is of another model.

    mmengine loads what fits and logs the rest: a network would start from random weights. This hook acts when a
    checkpoint was read, before its weights are used; it reads their names and shapes. Of a distiller, the student must
    fit; objectives and teachers may be others. It changes nothing but the weights, which are then loaded anyway, and
    stores nothing in a checkpoint.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the checkpoint with the model.

        Raises:
            CheckpointError: When weights are missing, left over or of another shape.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        state = checkpoint.get('state_dict', checkpoint)
        allowed = _OF_ONE_STAGE if hasattr(model, 'objectives') else ()
        try:
            load_strict(
                model,
                state,
                str(runner._load_from),
                allow_missing=allowed,
                allow_unexpected=allowed,
            )
        except CheckpointError as error:
            plain = allowed and not any(key.startswith(STUDENT_PREFIX) for key in state)
            cure = (
                'model.student_checkpoint takes the weights of a plain model'
                if plain
                else "init_cfg=dict(type='Pretrained', checkpoint=...) of the model takes what fits"
            )
            raise CheckpointError(f'load_from: {error} ({cure})') from error
