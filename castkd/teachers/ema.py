"""A teacher that follows the student as an exponential moving average."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from castkd.checkpoints import load_checkpoint, load_strict, sha256, student_state
from castkd.checks import check_choice, check_number
from castkd.errors import ConfigError
from castkd.registry import MODELS
from castkd.teachers.base import Teacher


@MODELS.register_module()
class EMATeacher(Teacher):
    """Exponential moving average of the student, after an optional burn-in with other weights.

    Before every step t: while t < ``burn_in`` the teacher keeps its weights; at t = ``burn_in`` it becomes a copy of
    the student (``handover='copy'``) or goes on from its own weights (``'keep'``); afterwards
    ``teacher <- decay * teacher + (1 - decay) * student``, matched by key. With a checkpoint and a burn-in this is
    Guided Distillation (Berrada et al., WACV 2024); with neither it is the mean teacher (Tarvainen and Valpola, 2017).

    Args:
        decay: Share of the old weights, in [0, 1).
        burn_in: Steps before the teacher starts to follow.
        handover: ``copy`` or ``keep``, see above.
        buffers: ``average`` floating-point buffers (batch-norm statistics) like parameters, or ``copy`` the student's.
            Integer buffers are always copied.
        checkpoint: File of the first weights; None starts from the student.
        student: The distiller's student, whose architecture the teacher has.
        classes: See :class:`~castkd.teachers.base.Teacher`.
        class_mapping: See :class:`~castkd.teachers.base.Teacher`.

    Raises:
        ConfigError: When the first step would overwrite a loaded teacher.
    """

    moves = True

    def __init__(
        self,
        decay: float = 0.9996,
        *,
        student: nn.Module,
        burn_in: int = 0,
        handover: str = 'copy',
        buffers: str = 'average',
        checkpoint: str | None = None,
        classes: tuple[str, ...] | None = None,
        class_mapping: dict[str, str | None] | None = None,
    ) -> None:
        check_number('EMATeacher', 'decay', decay, low=0, high=1, high_open=True)
        check_number('EMATeacher', 'burn_in', burn_in, low=0, integer=True)
        check_choice('EMATeacher', 'handover', handover, ('copy', 'keep'))
        check_choice('EMATeacher', 'buffers', buffers, ('average', 'copy'))
        if checkpoint and burn_in == 0 and handover == 'copy':
            raise ConfigError(
                "EMATeacher: burn_in=0 with handover='copy' would overwrite the teacher loaded from "
                f"{checkpoint!r} at the first step; set burn_in, or handover='keep'"
            )
        if not checkpoint and (burn_in > 0 or handover == 'keep'):
            raise ConfigError(
                f'EMATeacher: burn_in={burn_in} with handover={handover!r} starts from a teacher of its own; '
                'name its checkpoint'
            )
        super().__init__(copy.deepcopy(student), classes=classes, class_mapping=class_mapping)
        self.decay = decay
        self.burn_in = burn_in
        self.handover = handover
        self.buffers = buffers
        self.checkpoint = checkpoint and Path(checkpoint)

    def load(self) -> None:
        """Load the first weights, when a file gives them."""
        if self.checkpoint:
            content = load_checkpoint(self.checkpoint)
            load_strict(self.model, student_state(content), str(self.checkpoint))
        self.freeze()

    @torch.no_grad()
    def before_step(self, student: nn.Module, step: int) -> None:
        """Follow the student before training step ``step`` (counted from 0)."""
        if step < self.burn_in:
            return
        copies = step == self.burn_in and self.handover == 'copy'
        decay = 0.0 if copies else self.decay
        source = student.state_dict()
        parameters = {name for name, _ in student.named_parameters()}
        done = set()
        for name, value in self.model.state_dict().items():
            # A module that stands in two places has two names and one tensor.
            if value.data_ptr() in done:
                continue
            done.add(value.data_ptr())
            averages = name in parameters or self.buffers == 'average'
            if decay and averages and value.is_floating_point():
                value.lerp_(source[name].to(value.dtype), 1.0 - decay)
            else:
                value.copy_(source[name])

    def state(self) -> dict[str, Tensor]:
        """Return all weights: they exist nowhere else."""
        return self.model.state_dict()

    def provenance(self) -> dict:
        """Return file and SHA-256 of the first weights, when a file gave them."""
        if not self.checkpoint:
            return {}
        return {'file': str(self.checkpoint), 'sha256': sha256(self.checkpoint)}
