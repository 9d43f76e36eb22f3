"""A trained model and the way its images are read: files in, predictions out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import TRANSFORMS
from torch import nn
from torch.utils.data import DataLoader, Dataset

from castkd.adapters import SemanticAdapter, adapter_for
from castkd.apis.student import (
    building,
    load_student,
    prediction_dataset,
    read_config,
    student_config,
)
from castkd.errors import CastkdError, ConfigError, DataError, in_words
from castkd.registry import TRANSFORMS as OWN_TRANSFORMS


class Predictor:
    """A plain model with the test pipeline of its config, without the steps that concern labels alone.

    Args:
        model: The model, in eval mode on its device, with ``dataset_meta``.
        config: Its config, from :func:`~castkd.apis.student.student_config`.

    Attributes:
        model: As given.
        config: As given.
        classes: Names of the classes it predicts.
    """

    def __init__(self, model: nn.Module, config: Config) -> None:
        self.model = model
        self.config = config
        self.classes: tuple[str, ...] = model.dataset_meta['classes']
        first, *rest = [
            step
            for step in prediction_dataset(config).pipeline
            if not (reads_annotations(step) or changes_labels(step))
        ]
        array = {'type': 'LoadImageFromNDArray', 'to_float32': first.get('to_float32', False)}
        with building(config, 'test pipeline'):
            self._load = TRANSFORMS.build(_strict_loader(first))
            self._load_array = TRANSFORMS.build(array)
            self._transforms = [TRANSFORMS.build(step) for step in rest]

    def predict_paths(self, paths: Sequence[str | Path], batch_size: int = 8) -> list:
        """Predict image files.

        Args:
            paths: Image files.
            batch_size: Images per forward pass.

        Returns:
            One data sample per file on the CPU, with predictions in pixels of the file.

        Raises:
            DataError: When a file cannot be read.
        """
        return [sample.cpu() for batch in self.batches(paths, batch_size) for sample in batch]

    def batches(
        self, paths: Sequence[str | Path], batch_size: int = 8, num_workers: int = 0
    ) -> Iterator[list]:
        """Predict image files batch by batch, in order; the samples stay on the model's device.

        Args:
            paths: Image files.
            batch_size: Images per forward pass.
            num_workers: Processes that read images ahead; 0 reads them in this one.

        Raises:
            DataError: When a file cannot be read.
        """
        loader = DataLoader(
            _Images(paths, self._from_path),
            batch_size=batch_size,
            num_workers=num_workers,
            collate_fn=list,
        )
        for items in loader:
            for item in items:
                if isinstance(item, Exception):
                    raise item
            yield self._predict(items)

    def predict_images(self, images: Sequence[np.ndarray]) -> list:
        """Predict images in memory in one forward pass.

        Args:
            images: Each (H, W, 3), uint8, BGR.

        Returns:
            One data sample per image on the CPU, with predictions in pixels of the image.
        """
        items = []
        for index, image in enumerate(images):
            items.append(self._rest(self._load_array({'img': image, 'img_id': index})))
        return [sample.cpu() for sample in self._predict(items)]

    def check_named(self, labels: torch.Tensor) -> None:
        """Refuse predicted class indices, of any shape, that no class name belongs to.

        Raises:
            ConfigError: When an index lies behind the last name.
        """
        highest = int(labels.max()) if labels.numel() else -1
        if highest >= len(self.classes):
            raise ConfigError(
                f'the model predicts class {highest} but only {len(self.classes)} classes are named; '
                'set metainfo.classes of the test dataset'
            )

    def _from_path(self, path: str | Path, index: int) -> dict:
        try:
            loaded = self._load({'img_path': str(path), 'img_id': index})
        except CastkdError:
            raise
        except Exception as error:
            # Loaders of the mm packages fail in many ways on a broken file.
            raise DataError(
                f'image {str(path)!r} cannot be read ({in_words(error)}); replace or remove it'
            ) from error
        return self._rest(loaded)

    def _rest(self, data: dict) -> dict:
        for transform in self._transforms:
            data = transform(data)
        return data

    @torch.no_grad()
    def _predict(self, items: list[dict]) -> list:
        sizes = {tuple(item['inputs'].shape) for item in items}
        if len(sizes) > 1 and isinstance(adapter_for(self.model), SemanticAdapter):
            # mmseg does not pad a batch of images of different sizes.
            return [sample for item in items for sample in self._predict([item])]
        return self.model.test_step(pseudo_collate(items))


class _Images(Dataset):
    """Prepared images; one that cannot be read is returned as its error, which a worker would turn into a traceback."""

    def __init__(
        self, paths: Sequence[str | Path], prepare: Callable[[str | Path, int], dict]
    ) -> None:
        self.paths = paths
        self.prepare = prepare

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict | CastkdError:
        try:
            return self.prepare(self.paths[index], index)
        except CastkdError as error:
            return error


def reads_annotations(step: Mapping[str, Any]) -> bool:
    """Tell whether a step of a pipeline loads labels."""
    name = str(step['type']).rsplit('.', maxsplit=1)[-1]
    return name.startswith('Load') and 'Annotations' in name


def changes_labels(step: Mapping[str, Any]) -> bool:
    """Tell whether a step of a pipeline is a transform of castkd that concerns labels alone (``labels_only``)."""
    kind = step.get('type')
    if isinstance(kind, str):
        scope, _, name = kind.rpartition('.')
        OWN_TRANSFORMS.import_from_location()
        kind = OWN_TRANSFORMS.module_dict.get(name) if scope == 'castkd' else None
    return getattr(kind, 'labels_only', False)


def _strict_loader(step: Mapping[str, Any]) -> dict:
    """Return castkd's loader, which refuses broken images, in place of the mm one with the same result."""
    name = str(step['type']).rsplit('.', maxsplit=1)[-1]
    same = name == 'LoadImageFromFile' and not {*step} - {'type', 'to_float32', 'backend_args'}
    return {**step, 'type': 'castkd.LoadImage'} if same else dict(step)


def load_predictor(
    config: str | Path | Config,
    checkpoint: str | Path,
    device: str | torch.device | None = 'cpu',
    cfg_options: Mapping[str, Any] | None = None,
) -> Predictor:
    """Load a trained model for prediction.

    Args:
        config: Config of a distiller or of a plain mmdet or mmseg model.
        checkpoint: Its checkpoint, or an exported student.
        device: Where it runs; None takes the first GPU if there is one, else the CPU.
        cfg_options: New config values by dotted key.

    Raises:
        ConfigError: When the config is wrong or the device is not there.
        CheckpointError: When the file is missing, damaged, unsafe or of another model.
    """
    plain = student_config(read_config(config, cfg_options))
    model, _ = load_student(plain, checkpoint)
    if device is None:
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {str(device)!r} cannot be used: {in_words(error)}') from error
    return Predictor(model, plain)
