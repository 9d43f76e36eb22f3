"""Learning rates over training steps."""

from __future__ import annotations

from typing import Any

from mmengine.optim import PolyLR as MMEnginePolyLR

from castkd.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class PolyLR(MMEnginePolyLR):
    r"""Polynomial decay in which the last step learns too, as segmentation papers have it.

    .. math:: \eta_t = \eta_\text{min} + (\eta_0 - \eta_\text{min}) (1 - t / T)^\text{power}, \quad t = 0 \dots T - 1

    with T = ``end - begin`` steps. mmengine's divides by T - 1, so that its last step has the least rate, which is
    mostly 0.

    Takes the arguments of mmengine's ``PolyLR``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - mmengine's own
        super().__init__(*args, **kwargs)
        self.total_iters += 1
