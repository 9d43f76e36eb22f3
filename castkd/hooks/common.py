"""What several hooks need of a runner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.model import is_model_wrapper

from castkd.errors import ConfigError

if TYPE_CHECKING:
    from mmengine.runner import Runner


def distiller_of(runner: Runner) -> Any:  # noqa: ANN401 - hooks stand beside the distiller, not above it
    """Return the runner's distiller without the wrapper that distributed training puts around it.

    Raises:
        ConfigError: When the runner trains another kind of model.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not hasattr(model, 'objectives'):
        raise ConfigError(
            'custom_hooks: the hooks of castkd that watch training need a castkd.Distiller, but model is a '
            f"{type(model).__name__}; set model.type='castkd.Distiller' or remove these hooks"
        )
    return model


def is_resumed(runner: Runner) -> bool:
    """Tell, from ``before_train`` on, whether the run goes on from a checkpoint."""
    return runner.iter > 0
