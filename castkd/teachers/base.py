"""The one owner of a teacher network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from castkd.adapters import adapter_for
from castkd.checks import check_number
from castkd.errors import ConfigError, in_one_line, near_names
from castkd.losses.maps import resize_labels
from castkd.registry import build_model
from castkd.semantic import IGNORE, padded_shape
from castkd.structures import Pass, PassResult
from castkd.taps import Tap, record_taps
from castkd.teachers.normalization import InputConverter


class Teacher:
    """A network that only gives targets.

    It is not a module of the distiller: its parameters are in no optimiser, no DDP bucket and, unless it moves, in no
    checkpoint. It is frozen and in eval mode from its first moment, and nothing can put it into train mode, because
    ``train()`` of the distiller does not reach it.

    Args:
        model: Config of the teacher network, or the network.
        classes: Names of the classes it predicts; None when its checkpoint tells.
        class_mapping: Its class name -> the student's class name, or None for a class to leave out. None when both
            have the same classes in the same order.
        input_scale: Factor of its image size to the student's, for a teacher that wants larger images.

    Attributes:
        model: The network.
        moves: Whether the weights change during training.
    """

    moves = False

    def __init__(
        self,
        model: dict | nn.Module,
        *,
        classes: tuple[str, ...] | None = None,
        class_mapping: dict[str, str | None] | None = None,
        input_scale: float = 1.0,
    ) -> None:
        check_number(type(self).__name__, 'input_scale', input_scale, low=0, low_open=True)
        self.name = type(self).__name__
        self.model = build_model(model)
        self.classes = tuple(classes) if classes else None
        self.class_mapping = class_mapping
        self.input_scale = input_scale
        self._convert: Callable | None = None
        self._label_table: Tensor | None = None
        self._student_count = 0
        self.freeze()

    def freeze(self) -> None:
        """Put the network into eval mode and stop gradients to all its parameters."""
        self.model.eval()
        self.model.requires_grad_(False)

    def connect(self, student: nn.Module, student_classes: tuple[str, ...] | None) -> None:
        """Prepare for one student: its image normalisation and its classes.

        Raises:
            ConfigError: When the class sets differ and no mapping covers it, or a mapping has no classes to map to.
        """
        self._convert = InputConverter(
            student.data_preprocessor, self.model.data_preprocessor, self.input_scale
        )
        words = self._convert.describe()
        if words:
            print_log(f'teacher {self.name!r}: images are converted for it: {words}', 'current')
        if student_classes is not None:
            self.match_classes(tuple(student_classes))
        elif self.class_mapping:
            raise ConfigError(
                f'teacher {self.name!r} has a class_mapping, but the classes of the student are not known; set '
                'model.classes'
            )

    def match_classes(self, student_classes: tuple[str, ...]) -> None:
        """Prepare the table from the teacher's class indices to the student's.

        Raises:
            ConfigError: When the class sets differ and no mapping covers it.
        """
        if self.classes is None or (self.classes == student_classes and not self.class_mapping):
            return
        if self.class_mapping is None:
            raise ConfigError(
                f'teacher {self.name!r} predicts classes {self.classes} but the student learns {student_classes}; '
                "declare class_mapping={'teacher class': 'student class' or None}"
            )
        table = []
        for name in self.classes:
            if name not in self.class_mapping:
                hint = near_names(name, self.class_mapping)
                raise ConfigError(
                    f'teacher {self.name!r}: class_mapping says nothing of teacher class {name!r}; {hint}'
                )
            target = self.class_mapping[name]
            if target is not None and target not in student_classes:
                hint = near_names(target, student_classes)
                raise ConfigError(
                    f'teacher {self.name!r}: class_mapping[{name!r}] = {target!r} is no student class; {hint}'
                )
            table.append(-1 if target is None else student_classes.index(target))
        self._label_table = torch.tensor(table)
        self._student_count = len(student_classes)

    def run(self, request: Pass, inputs: Tensor, samples: list) -> PassResult:
        """Run the network for one pass, without gradient.

        Args:
            request: What to run and record.
            inputs: Images normalised for the student, (B, 3, H, W).
            samples: Their data samples.

        Returns:
            The result; predictions are in the student's labels and pixels. A segmentor's have ``pred_sem_seg`` with
            ``data`` (class indices, 255 where the student has no such class) and ``scores``, each (1, H, W). Taps that
            hold classes are in the student's order too, but for ``request.own_classes``.

        Raises:
            ConfigError: When a tap holds classes that are not the student's one to one, or a dense head runs whose
                classes are others than the student's: its outputs are compared as they are.
        """
        adapter = adapter_for(self.model)
        if request.kind == 'dense' and not self._same_order:
            raise ConfigError(
                f'teacher {self.name!r} has classes {self.classes}, in another order than the student or others; the '
                'outputs of its head are compared class by class, which needs the same; distil features instead'
            )
        inputs, own_samples = self._converted(inputs, samples)
        result = PassResult()
        with torch.no_grad(), record_taps(self.model, request.taps) as taps:
            if request.kind == 'encode':
                adapter.encode(self.model, inputs)
            elif request.kind in ('dense', 'forward'):
                run = adapter.dense if request.kind == 'dense' else adapter.forward
                result.outputs = run(self.model, inputs, own_samples)
            else:
                predictions = adapter.predict(self.model, inputs, own_samples)
                result.predictions = [
                    self._to_student(prediction, sample)
                    for prediction, sample in zip(predictions, samples, strict=True)
                ]
        result.taps = {
            path: value if path in request.own_classes else self._in_student_order(path, value)
            for path, value in taps.items()
        }
        return result

    def predict(self, inputs: Tensor, samples: list) -> list:
        """Return data samples with ``pred_instances`` or ``pred_sem_seg``, see :meth:`run`."""
        return self.run(Pass(self.name, '', 'predict', grad=False), inputs, samples).predictions

    def map_labels(self, labels: Tensor) -> Tensor:
        """Return the student's class index per teacher label; -1 for a class that is left out."""
        return labels if self._label_table is None else self._label_table.to(labels.device)[labels]

    def fingerprint(self) -> str:
        """Return a hash of all parameters and buffers."""
        digest = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def load(self) -> None:
        """Load the weights; called once before training."""

    def before_step(self, student: nn.Module, step: int) -> None:
        """Act before a training step; a teacher that moves follows the student here."""

    def state(self) -> dict[str, Tensor]:
        """Return what belongs into the checkpoint: nothing for a teacher that does not move."""
        return {}

    def provenance(self) -> dict:
        """Return where the weights come from, in plain types."""
        return {}

    def _converted(self, inputs: Tensor, samples: list) -> tuple[Tensor, list]:
        if self._convert is None:
            raise ConfigError(
                f'teacher {self.name!r} was not loaded; init_weights() has to run first'
            )
        return self._convert(inputs, samples)

    @property
    def _same_order(self) -> bool:
        return self._label_table is None or self._label_table.tolist() == self._places

    @property
    def _places(self) -> list[int]:
        return list(range(self._student_count))

    def _in_student_order(self, path: str, value: Any) -> Any:  # noqa: ANN401 - a tap holds anything
        if self._same_order:
            return value
        with in_one_line(f'teacher {self.name!r} has other classes than the student: '):
            axis = adapter_for(self.model).class_axis(self.model, Tap.parse(path))
        if axis is None:
            return value
        found, order = self._label_table.sort()
        if found.tolist() != self._places:
            raise ConfigError(
                f'teacher {self.name!r}: tap {path!r} holds its classes {self.classes}, which class_mapping does not '
                "bring to the student's one to one; compare features (backbone, neck, decode_head.conv_seg:input), or "
                'learn from its labels (castkd.PseudoLabel)'
            )
        return _reordered(value, axis, order)

    def _to_student(self, prediction: Any, sample: Any) -> Any:  # noqa: ANN401 - data samples
        if 'pred_sem_seg' in prediction:
            return self._map_to_student(prediction.pred_sem_seg, sample)
        instances = prediction.pred_instances
        labels = self.map_labels(instances.labels)
        instances = instances[labels >= 0]
        instances.labels = labels[labels >= 0]
        if self.input_scale != 1.0:
            instances = _rescaled(instances, self.input_scale, sample.metainfo['img_shape'][:2])
        mapped = sample.clone()
        mapped.pred_instances = instances
        return mapped

    def _map_to_student(self, semantic: PixelData, sample: Any) -> Any:  # noqa: ANN401 - data samples
        labels, scores = self.map_labels(semantic.data), semantic.scores
        labels = labels.masked_fill(labels < 0, IGNORE)
        if self.input_scale != 1.0:
            shape = padded_shape(sample)
            labels = resize_labels(labels, shape)
            scores = nn.functional.interpolate(scores[None], size=shape)[0]
        mapped = sample.clone()
        mapped.pred_sem_seg = PixelData(data=labels, scores=scores)
        return mapped


def _reordered(value: Any, axis: int, order: Tensor) -> Any:  # noqa: ANN401 - tensors, or lists of them
    if torch.is_tensor(value):
        # Another number of channels is another set of classes, such as the borders that STDC's third head learns.
        fits = value.shape[axis] == len(order)
        return value.index_select(axis, order.to(value.device)) if fits else value
    return [_reordered(item, axis, order) for item in value]


def _rescaled(instances: InstanceData, scale: float, shape: tuple[int, int]) -> InstanceData:
    instances.bboxes = instances.bboxes / scale
    if 'masks' in instances:
        masks = instances.masks[:, None].float()
        instances.masks = nn.functional.interpolate(masks, size=shape, mode='nearest')[:, 0].bool()
    return instances


class TeacherBank(Mapping):
    """The teachers of a distiller by name.

    Args:
        teachers: Teacher or teacher config per name.
        student: The student; a config without ``model`` copies it.
    """

    def __init__(self, teachers: Mapping[str, dict | Teacher] | None, student: nn.Module) -> None:
        self._teachers: dict[str, Teacher] = {}
        for name, teacher in (teachers or {}).items():
            teacher = build_model(teacher, student=student)
            teacher.name = name
            self._teachers[name] = teacher

    def __getitem__(self, name: str) -> Teacher:
        """Return the teacher called ``name``."""
        return self._teachers[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over names."""
        return iter(self._teachers)

    def __len__(self) -> int:
        """Return the number of teachers."""
        return len(self._teachers)

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Apply a tensor function (device or type move) to every teacher network."""
        for teacher in self.values():
            teacher.model._apply(function)

    def state(self) -> dict[str, Tensor]:
        """Return ``teachers.<name>.<key>`` entries of the teachers that move."""
        return {
            f'teachers.{name}.{key}': value
            for name, teacher in self.items()
            for key, value in teacher.state().items()
        }
