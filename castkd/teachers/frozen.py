"""A teacher whose weights never change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from castkd.batch_norms import frozen_batch_statistics
from castkd.checkpoints import load_checkpoint, load_strict, sha256, student_state
from castkd.errors import ConfigError
from castkd.registry import MODELS
from castkd.structures import Pass, PassResult
from castkd.teachers.base import Teacher


@contextmanager
def _batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms use the batch's statistics, and keep their own, while the context is open."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.train()
    try:
        with frozen_batch_statistics(network):
            yield
    finally:
        for norm in norms:
            norm.eval()


@MODELS.register_module()
class FrozenTeacher(Teacher):
    """A teacher from a checkpoint, loaded strictly and never changed.

    Args:
        model: Config of the teacher network, or the network.
        checkpoint: File of its weights: an mm checkpoint, a distiller's (its student is taken) or an exported student.
        allow_missing: Key prefixes that the file may lack.
        allow_unexpected: Key prefixes that the file may have beside the network's.
        classes: See :class:`~castkd.teachers.base.Teacher`.
        class_mapping: See :class:`~castkd.teachers.base.Teacher`.
        input_scale: See :class:`~castkd.teachers.base.Teacher`.
        batch_statistics: Normalise with mean and variance of the batch, as a network in train mode does, in place of
            the stored ones, which stay as they are (the authors of MGD do the former). Dropout stays off, and a
            single image, as when the teacher is judged, has the stored ones.
        student: The distiller's student; not used here.
    """

    def __init__(
        self,
        model: dict | nn.Module,
        checkpoint: str,
        *,
        allow_missing: Sequence[str] = (),
        allow_unexpected: Sequence[str] = (),
        classes: tuple[str, ...] | None = None,
        class_mapping: dict[str, str | None] | None = None,
        input_scale: float = 1.0,
        batch_statistics: bool = False,
        student: nn.Module | None = None,
    ) -> None:
        del student
        if not checkpoint:
            raise ConfigError(
                'FrozenTeacher: checkpoint names no file; a teacher from random weights teaches nothing'
            )
        super().__init__(
            model, classes=classes, class_mapping=class_mapping, input_scale=input_scale
        )
        self.checkpoint = Path(checkpoint)
        self.batch_statistics = batch_statistics
        self.allow_missing = tuple(allow_missing)
        self.allow_unexpected = tuple(allow_unexpected)

    def load(self) -> None:
        """Load the weights strictly.

        Raises:
            CheckpointError: When the file is missing, damaged, unsafe or of another model.
        """
        content = load_checkpoint(self.checkpoint)
        load_strict(
            self.model,
            student_state(content),
            str(self.checkpoint),
            allow_missing=self.allow_missing,
            allow_unexpected=self.allow_unexpected,
        )
        meta = content.get('meta') or {}
        # Older mm checkpoints write CLASSES, before mmdet 3 beside the other meta data.
        named = {**meta, **(meta.get('dataset_meta') or {})}
        classes = {key.lower(): value for key, value in named.items()}.get('classes')
        if self.classes is None and classes:
            self.classes = tuple(classes)
        self.freeze()

    def run(self, request: Pass, inputs: Tensor, samples: list) -> PassResult:
        """Run the network for one pass, see :class:`~castkd.teachers.base.Teacher`."""
        by_batch = self.batch_statistics and len(inputs) > 1
        with _batch_statistics(self.model) if by_batch else nullcontext():
            return super().run(request, inputs, samples)

    def match_classes(self, student_classes: tuple[str, ...]) -> None:
        """Compare with the student's classes, see :class:`~castkd.teachers.base.Teacher`."""
        if self.classes is None:
            raise ConfigError(
                f'teacher {self.name!r}: {str(self.checkpoint)!r} does not say which classes it '
                'predicts; set classes=(...)'
            )
        super().match_classes(student_classes)

    def provenance(self) -> dict:
        """Return file and SHA-256."""
        return {'file': str(self.checkpoint), 'sha256': sha256(self.checkpoint)}
