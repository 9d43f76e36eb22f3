"""Adapters: how to run a network of one family as deep as a pass asks.

All calls go through the network's public methods, so a network needs no change to be a student or a teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from mmdet.models import SingleStageDetector
from mmdet.models.utils import unpack_gt_instances
from mmengine.structures import PixelData
from torch import Tensor, nn

from castkd.errors import ConfigError
from castkd.semantic import IGNORE, most_likely
from castkd.taps import Tap, is_tapped

# Parts of a network that know no classes.
_WITHOUT_CLASSES = {'backbone', 'neck'}


class DetectionAdapter:
    """Runs any mmdet detector.

    Attributes:
        partial_loss: Whether a loss over some images of a batch still runs the head on all of them, so that taps
            see every image.
    """

    partial_loss = False

    def has_targets(self, sample: Any) -> bool:  # noqa: ANN401 - data samples
        """Tell whether an image has anything that a loss learns from."""
        return len(sample.gt_instances) > 0

    def encode(self, network: nn.Module, inputs: Tensor) -> Any:  # noqa: ANN401 - features of any form
        """Run backbone and neck on ``inputs`` (B, 3, H, W)."""
        return network.extract_feat(inputs)

    def dense(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the head that looks at every place of the image: the only one, unless the network has two stages."""
        return self.forward(network, inputs, samples)

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the network with its head and return the raw outputs."""
        return network(inputs, samples, mode='tensor')

    def predict(self, network: nn.Module, inputs: Tensor, samples: list) -> list:
        """Return data samples with ``pred_instances`` in network-input coordinates."""
        return network.predict(inputs, [_in_own_pixels(item) for item in samples], rescale=False)

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Return the network's own losses over the images ``keep``.

        Without any image to keep, the losses of the whole batch are multiplied by zero: every parameter
        stays in the graph, and the process takes part in the sums that losses exchange with others.
        """
        if len(keep) == len(samples):
            return network.loss(inputs, samples)
        if not keep:
            return _times_zero(network.loss(inputs, samples))
        return network.loss(inputs[keep], [samples[index] for index in keep])

    def class_axis(self, network: nn.Module, tap: Tap) -> int | None:
        """Return the axis of a tap along which classes lie, None for a tap that holds a feature.

        Raises:
            ConfigError: When that cannot be told: heads of detectors lay out classes in ways of their own.
        """
        if tap.module.split('.')[0] in _WITHOUT_CLASSES:
            return None
        raise ConfigError(
            f'tap {tap.path!r} of {type(network).__name__} may hold classes, and where is not known; tap its '
            'backbone or neck'
        )


class SingleStageAdapter(DetectionAdapter):
    """Runs detectors with one dense head (RetinaNet, FCOS, ATSS, GFL)."""

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the head as a module, so that forward hooks on it fire."""
        return network.bbox_head(network.extract_feat(inputs))


class TwoStageAdapter(DetectionAdapter):
    """Runs detectors whose RoI head looks at proposals (Faster R-CNN, Mask R-CNN)."""

    def dense(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the proposal head without choosing proposals; the RoI head does not run."""
        return network.rpn_head(network.extract_feat(inputs))


class QuerySegmentorAdapter(DetectionAdapter):
    """Runs MaskFormer-like segmentors: one mask and one class distribution per query."""

    partial_loss = True

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the head as a module, so that forward hooks on it fire."""
        return network.panoptic_head(network.extract_feat(inputs), samples)

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Run the head on the whole batch and take the set loss over the images ``keep``."""
        if not keep or len(keep) == len(samples):
            return super().loss(network, inputs, samples, keep)
        head = network.panoptic_head
        cls_scores, mask_preds = self.forward(network, inputs, samples)
        chosen = [samples[index] for index in keep]
        targets = head.preprocess_gt(
            [sample.gt_instances for sample in chosen],
            [sample.get('gt_sem_seg') for sample in chosen],
        )
        return head.loss_by_feat(
            [scores[keep] for scores in cls_scores],
            [masks[keep] for masks in mask_preds],
            targets,
            [sample.metainfo for sample in chosen],
        )


class GridMaskAdapter(DetectionAdapter):
    """Runs SOLO-like segmentors: one mask and one class score per cell of a grid, no box head."""

    partial_loss = True

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Run the head as a module, so that forward hooks on it fire."""
        return network.mask_head(network.extract_feat(inputs))

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Run the head on the whole batch and take its loss over the images ``keep``."""
        if not keep or len(keep) == len(samples):
            return super().loss(network, inputs, samples, keep)
        outputs = self.forward(network, inputs, samples)
        chosen = [samples[index] for index in keep]
        instances, ignored, metas = unpack_gt_instances(chosen)
        for targets, meta in zip(instances, metas, strict=True):
            targets.masks = targets.masks.pad(meta['batch_input_shape'])
        return network.mask_head.loss_by_feat(
            *_of_images(outputs, keep),
            batch_gt_instances=instances,
            batch_img_metas=metas,
            batch_gt_instances_ignore=ignored,
        )


class PartialLossAdapter(DetectionAdapter):
    """Runs detectors that take a loss over some images of a batch themselves, by a method ``loss_of``."""

    partial_loss = True

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Run the network on the whole batch and take its loss over the images ``keep``."""
        if not keep:
            return super().loss(network, inputs, samples, keep)
        return network.loss_of(inputs, samples, keep)


class SemanticAdapter(DetectionAdapter):
    """Runs mmseg segmentors that give one logit per class and pixel (EncoderDecoder, also the cascaded one).

    mmseg calls ``forward`` of its heads, which no forward hook sees; here heads are called as modules in every kind of
    pass, so that taps on them work. Auxiliary heads, which mmseg runs for a loss alone, run wherever a tap reads them.
    """

    partial_loss = True

    def has_targets(self, sample: Any) -> bool:  # noqa: ANN401 - data samples
        """Tell whether any pixel of an image has a class."""
        return bool((sample.gt_sem_seg.data != IGNORE).any())

    def forward(self, network: nn.Module, inputs: Tensor, samples: list) -> Any:  # noqa: ANN401
        """Return the decode head's logits (B, C, h, w) at its own stride; of a cascade, those of its last head."""
        with _heads_as_modules(network), _tapped_auxiliary_heads(network):
            return network(inputs, samples, mode='tensor')

    def predict(self, network: nn.Module, inputs: Tensor, samples: list) -> list:
        """Return data samples with ``pred_sem_seg`` in network-input coordinates, padding included.

        Its ``data`` (1, H, W) are class indices, its ``scores`` (1, H, W) their probabilities.
        """
        size = tuple(inputs.shape[-2:])
        with _heads_as_modules(network), _tapped_auxiliary_heads(network):
            found = network.predict(inputs, [_unmoved(sample, size) for sample in samples])
        return [
            _with_prediction(sample, prediction.seg_logits.data)
            for sample, prediction in zip(samples, found, strict=True)
        ]

    def loss(self, network: nn.Module, inputs: Tensor, samples: list, keep: list[int]) -> dict:
        """Run all heads on the whole batch and take their losses over the images ``keep``.

        Raises:
            ConfigError: When an image has no label map.
        """
        for sample in samples:
            if 'gt_sem_seg' not in sample:
                raise ConfigError(
                    f'image {sample.metainfo.get("img_path")!r} has no label map to learn from; load one with '
                    'castkd.LoadSemanticAnnotations, or take the targets of this view from a teacher'
                )
        with _heads_as_modules(network):
            if not keep:
                return _times_zero(network.loss(inputs, samples))
            if len(keep) == len(samples):
                return network.loss(inputs, samples)
            with _losses_of_images(network, keep):
                return network.loss(inputs, samples)

    def class_axis(self, network: nn.Module, tap: Tap) -> int | None:
        """Return 1 for the output of a head or of its classifier, None for everything before it."""
        module = tap.resolve(network)
        givers = [
            part for head in _heads(network) for part in (head, getattr(head, 'conv_seg', None))
        ]
        return 1 if module in givers and not tap.reads_input else None


def _in_own_pixels(sample: Any) -> Any:  # noqa: ANN401 - data samples
    """Return a copy whose file has the size of the view: SOLO's heads enlarge masks to it whatever they are told."""
    own = sample.clone()
    own.set_metainfo({'ori_shape': tuple(sample.metainfo['img_shape'][:2])})
    return own


def _unmoved(sample: Any, size: tuple[int, int]) -> Any:  # noqa: ANN401 - data samples
    """Return a sample whose image is the network's input, so that mmseg does not resize or flip predictions back."""
    plain = type(sample)()
    plain.set_metainfo(
        {
            **sample.metainfo,
            **dict.fromkeys(('ori_shape', 'img_shape', 'pad_shape'), size),
            **dict.fromkeys(('padding_size', 'img_padding_size'), (0, 0, 0, 0)),
            'flip': False,
        }
    )
    return plain


def _with_prediction(sample: Any, logits: Tensor) -> Any:  # noqa: ANN401 - data samples
    labels, scores = most_likely(logits)
    predicted = sample.clone()
    predicted.pred_sem_seg = PixelData(data=labels[None], scores=scores[None])
    return predicted


def _heads(
    network: nn.Module, names: tuple[str, ...] = ('decode_head', 'auxiliary_head')
) -> list[nn.Module]:
    """Return the heads of a segmentor."""
    owners = [getattr(network, name, None) for name in names]
    return [
        head
        for owner in owners
        if owner is not None
        for head in (owner if isinstance(owner, nn.ModuleList) else [owner])
    ]


@contextmanager
def _heads_as_modules(network: nn.Module) -> Iterator[None]:
    """Let ``head.forward(...)`` call ``head(...)`` while the context is open, so that forward hooks fire."""

    def calling(head: nn.Module) -> Callable:
        def forward(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever heads take and give
            # The call below has to reach the head's own forward.
            del head.forward
            try:
                return head(*arguments, **options)
            finally:
                head.forward = forward

        return forward

    with ExitStack() as stack:
        for head in _heads(network):
            head.forward = calling(head)
            stack.callback(delattr, head, 'forward')
        yield


@contextmanager
def _tapped_auxiliary_heads(network: nn.Module) -> Iterator[None]:
    """Run the auxiliary heads that a tap reads on the features, while the context is open."""
    tapped = [head for head in _heads(network, ('auxiliary_head',)) if is_tapped(head)]
    if not tapped:
        yield
        return
    encode = network.extract_feat

    def extract_feat(inputs: Tensor) -> Any:  # noqa: ANN401 - features of any form
        features = encode(inputs)
        for head in tapped:
            head.forward(features)  # a call of the module, see _heads_as_modules
        return features

    network.extract_feat = extract_feat
    try:
        yield
    finally:
        del network.extract_feat


@contextmanager
def _losses_of_images(network: nn.Module, keep: list[int]) -> Iterator[None]:
    """Let the heads of a segmentor compare only the images ``keep`` while the context is open."""

    def comparing(whole: Callable) -> Callable:
        def loss_by_feat(outputs: Any, samples: list, **options: Any) -> dict:  # noqa: ANN401
            return whole(_of_images(outputs, keep), [samples[index] for index in keep], **options)

        return loss_by_feat

    with ExitStack() as stack:
        for head in _heads(network):
            head.loss_by_feat = comparing(head.loss_by_feat)
            stack.callback(delattr, head, 'loss_by_feat')
        yield


def _of_images(outputs: Any, keep: list[int]) -> Any:  # noqa: ANN401 - nested lists of tensors
    if torch.is_tensor(outputs):
        return outputs[keep]
    return [_of_images(output, keep) for output in outputs]


def adapter_for(network: nn.Module) -> DetectionAdapter:
    """Return the adapter of a network's family.

    Raises:
        ConfigError: When the network is of no known family.
    """
    if hasattr(network, 'panoptic_head'):
        return QuerySegmentorAdapter()
    if _has_head(network, 'mask_head') and not _has_head(network, 'bbox_head'):
        return GridMaskAdapter()
    if _has_head(network, 'decode_head') and hasattr(network, 'encode_decode'):
        return SemanticAdapter()
    if _has_head(network, 'rpn_head'):
        return TwoStageAdapter()
    if isinstance(network, SingleStageDetector):
        return SingleStageAdapter()
    if hasattr(network, 'loss_of'):
        return PartialLossAdapter()
    if hasattr(network, 'extract_feat') and hasattr(network, 'loss'):
        return DetectionAdapter()
    raise ConfigError(
        f'{type(network).__name__} is neither an mmdet detector nor an mmseg segmentor: '
        'it has no extract_feat and loss methods'
    )


def _has_head(network: nn.Module, name: str) -> bool:
    return getattr(network, name, None) is not None


def _times_zero(losses: dict) -> dict:
    return {
        name: [item * 0.0 for item in value] if isinstance(value, list) else value * 0.0
        for name, value in losses.items()
        if 'loss' in name and torch.is_tensor(value[0] if isinstance(value, list) else value)
    }
