"""Derived views: views that are made in the step from another view of the batch.

A derived view is made at most once per step, when a pass first asks for it, and stays in the step beside the views of
the batch: ``step.inputs[name]``, ``step.samples[name]``. ``step.carry(maps, name)`` carries maps of the source view,
such as a teacher's predictions, into it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from castkd.errors import ConfigError, near_names
from castkd.structures import Step


@dataclass
class Derived:
    """What a derived view is in one step.

    Attributes:
        inputs: Images (B', 3, H, W).
        samples: Their B' data samples.
        carry: Carries maps of the source view (B, ..., H, W) to maps of this one (B', ..., H, W).
    """

    inputs: Tensor
    samples: list
    carry: Callable[[Tensor], Tensor]


class DerivedView(ABC):
    """Makes a view of a step from another one. Random numbers come from torch's global state, which the loop sets.

    Args:
        source: Name of the view that it is made from: one of the batch, or another derived one.
    """

    def __init__(self, source: str) -> None:
        self.source = source

    @abstractmethod
    def __call__(self, inputs: Tensor, samples: list) -> Derived:
        """Make the view from the normalised images (B, 3, H, W) of the source and their data samples."""


def check_views(views: Mapping[str, DerivedView]) -> None:
    """Check that derived views begin with a view of the batch.

    Raises:
        ConfigError: When views are made from each other in a circle.
    """
    for name in views:
        passed, source = [name], views[name].source
        while source in views:
            passed.append(source)
            if passed.count(source) > 1:
                raise ConfigError(
                    f'views: {" is made from ".join(passed)}; a chain has to begin with a view of the batch'
                )
            source = views[source].source


def provide_view(name: str, step: Step, views: Mapping[str, DerivedView]) -> None:
    """Make sure that ``step`` has the view ``name``; a derived one is made unless it is there.

    Raises:
        ConfigError: When there is no such view, or the batch has one of the name of a derived one.
    """
    if name in step.inputs:
        if name in views and name not in step.carries:
            raise ConfigError(
                f'views: {name!r} is derived, but the batch has a view of that name too; rename one of them'
            )
        return
    if name not in views:
        hint = near_names(name, {*step.inputs, *views})
        raise ConfigError(
            f'the batch has no view {name!r} that an objective reads; {hint}. '
            "Add it to the pipeline's MultiBranch, or a source that gives it"
        )
    source = views[name].source
    provide_view(source, step, views)
    derived = views[name](step.inputs[source], step.samples[source])
    step.inputs[name], step.samples[name] = derived.inputs, derived.samples
    step.carries[name] = derived.carry
