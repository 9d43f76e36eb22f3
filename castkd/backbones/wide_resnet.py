"""A ResNet whose bottlenecks are twice as wide inside.

Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016; the layout is that of the public Wide ResNet-50-2.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mmseg.models.backbones import ResNet
from mmseg.models.backbones.resnet import Bottleneck

from castkd.registry import MODELS


class _WideBottleneck(Bottleneck):
    # Twice the inner width, the outer one as it was.
    expansion = 2


@MODELS.register_module()
class WideResNet(ResNet):
    """Wide ResNet-50-2: a ResNet-50 whose 3 x 3 convolutions have twice the channels.

    The names of its weights are those of mmseg's ResNet, so the public ImageNet weights fit.

    Args:
        base_channels: Inner width of the first stage; the stages' outputs have 2, 4, 8 and 16 times as many channels.
        **options: Of mmseg's ``ResNet``, but for ``depth``.

    Shape:
        Images (B, 3, H, W) to one feature per stage, (B, 2 * base_channels, H / 4, W / 4) and so on.
    """

    arch_settings: ClassVar = {50: (_WideBottleneck, (3, 4, 6, 3))}

    def __init__(self, base_channels: int = 128, **options: Any) -> None:  # noqa: ANN401
        super().__init__(depth=50, base_channels=base_channels, **options)
