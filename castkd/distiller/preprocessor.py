"""Image preprocessing for batches of several views."""

from __future__ import annotations

from mmdet.models.data_preprocessors import MultiBranchDataPreprocessor
from mmengine.model import BaseDataPreprocessor
from torch import nn

from castkd.registry import MODELS, build_model


@MODELS.register_module()
class MultiViewPreprocessor(MultiBranchDataPreprocessor):
    """mmdet's multi-branch preprocessor for batches in which some views are absent.

    A view that no image of the batch has (no unlabelled source in this stage) is left out. A batch
    from a pipeline without views becomes the view ``sup``.

    Args:
        data_preprocessor: Config of the preprocessor of each view, or the preprocessor.
    """

    def __init__(self, data_preprocessor: dict | nn.Module) -> None:
        BaseDataPreprocessor.__init__(self)
        self.data_preprocessor = build_model(data_preprocessor)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise, pad and group a batch.

        Args:
            data: Collated batch; ``inputs`` and ``data_samples`` are dicts of lists per view, or plain lists.
            training: Whether training-time batch augmentations apply.

        Returns:
            ``inputs``: (B, 3, H, W) per view; ``data_samples``: lists per view. Plain when not training.
        """
        if training and not isinstance(data['inputs'], dict):
            data = {key: {'sup': value} for key, value in data.items()}
        if training:
            data = {
                key: {view: items for view, items in views.items() if _present(items)}
                for key, views in data.items()
            }
        return super().forward(data, training)


def _present(items: list) -> bool:
    return any(item is not None for item in items)
