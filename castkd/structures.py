"""Records that travel through a training step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from castkd.checks import check_choice
from castkd.errors import ConfigError, near_names
from castkd.schedules import Schedule

STUDENT = 'student'
DEPTH = {'encode': 0, 'dense': 1, 'forward': 2, 'predict': 3, 'loss': 4}


def source_view(view: str) -> str:
    """Return the view of the batch that ``view`` shows: ``sup`` for ``sup`` and for its repetition ``sup#2``.

    A repetition is one more run on the same images. What a network draws at random (noise, dropout) is drawn anew.
    """
    return view.partition('#')[0]


@dataclass(frozen=True)
class PseudoTargets:
    """Targets that a teacher makes in this step.

    Attributes:
        teacher: Name of the teacher whose predictions become the targets.
        view: View that the teacher sees.
    """

    teacher: str
    view: str


@dataclass(frozen=True)
class Pass:
    """One run of one network on one view.

    Attributes:
        network: ``student``, or the name of a peer or a teacher.
        view: Name of the view, such as ``sup``; ``sup#2`` runs on ``sup`` once more, see :func:`source_view`.
        kind: ``encode`` (backbone and neck), ``dense`` (with the head that looks at every place: in a two-stage
            detector that of the proposals), ``forward`` (all heads), ``predict`` or ``loss``.
        taps: Tap paths to record during the run.
        grad: Whether gradients flow through the run (never for teachers).
        targets: Where a ``loss`` run takes its targets; None means the view's data samples.
        drop_empty: Whether a ``loss`` run leaves out images without any target.
        own_classes: Those of ``taps`` that a teacher with other classes gives in its own, for a reader that maps them;
            all others come in the student's order of classes, or are refused.
        weight: Factor of what the objective makes of the run; in a step in which it is 0 the objective does without the
            run. None for a run that it always needs.
    """

    network: str
    view: str
    kind: str
    taps: tuple[str, ...] = ()
    grad: bool = True
    targets: PseudoTargets | None = None
    drop_empty: bool = False
    own_classes: tuple[str, ...] = ()
    weight: Schedule | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check the kind."""
        check_choice('Pass', 'kind', self.kind, DEPTH)

    def needed(self, step: int) -> bool:
        """Tell whether the objective needs the run at training step ``step``."""
        return self.weight is None or bool(self.weight(step))

    def merge(self, other: Pass) -> Pass:
        """Return the one run that serves both requests.

        Raises:
            ConfigError: When the two cannot be served by one run.
        """
        kinds = {self.kind, other.kind}
        losses = [request for request in (self, other) if request.kind == 'loss']
        conflict = kinds == {'predict', 'loss'} or (
            len(losses) == 2
            and (self.targets, self.drop_empty) != (other.targets, other.drop_empty)
        )
        if conflict:
            raise ConfigError(
                f'{self.network} on view {self.view!r} is asked for {self.kind} (targets {self.targets}) and '
                f'{other.kind} (targets {other.targets}); one run cannot give both, use two views'
            )
        chosen = losses[0] if losses else max(self, other, key=lambda request: DEPTH[request.kind])
        taps = tuple(dict.fromkeys(self.taps + other.taps))
        # A tap that anyone wants in the student's classes is given so.
        mapped = {tap for item in (self, other) for tap in item.taps if tap not in item.own_classes}
        own = tuple(tap for tap in taps if tap not in mapped)
        grad = self.grad or other.grad
        return replace(chosen, taps=taps, grad=grad, own_classes=own, weight=None)


@dataclass(frozen=True)
class Marks:
    """Places in the images of a view that an objective chose in a step, for pictures.

    Attributes:
        view: The view.
        instances: Per image of the view mmengine's ``InstanceData`` with ``bboxes`` (n, 4) in pixels, ``labels`` (n,),
            indices into ``kinds``, and ``scores`` (n,).
        kinds: Name of each kind of place.
        palette: RGB colour of each kind.
    """

    view: str
    instances: list
    kinds: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]


@dataclass
class PassResult:
    """What one run gave.

    Attributes:
        taps: Recorded value per tap path.
        losses: The model's own losses of a ``loss`` run.
        predictions: Data samples with predictions of a ``predict`` run.
        outputs: Raw head outputs of a ``dense`` or ``forward`` run.
    """

    taps: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Tensor] = field(default_factory=dict)
    predictions: list | None = None
    outputs: Any = None


@dataclass
class Step:
    """Everything objectives may read in one training step.

    Attributes:
        index: Training step, counted from 0.
        inputs: Normalised images per view, each (B, 3, H, W).
        samples: Data samples per view.
        results: Result per (network, view).
        targets: Data samples with the targets that the student's loss on a view used.
        pseudo: Pseudo-label samples per (teacher, teacher view, student view).
        statistics: Numbers for the log that are not losses.
        carries: Per derived view, what carries maps of its source view into it.
    """

    index: int
    inputs: dict[str, Tensor]
    samples: dict[str, list]
    results: dict[tuple[str, str], PassResult] = field(default_factory=dict)
    targets: dict[str, list] = field(default_factory=dict)
    pseudo: dict[tuple[str, str, str], list] = field(default_factory=dict)
    statistics: dict[str, float] = field(default_factory=dict)
    carries: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def __getitem__(self, key: tuple[str, str]) -> PassResult:
        """Return the result of ``(network, view)``."""
        return self.results[key]

    def carry(self, maps: Tensor, view: str) -> Tensor:
        """Carry maps of a derived view's source, one per image (B, ..., H, W), into the derived view.

        Raises:
            ConfigError: When the view is not a derived one.
        """
        if view not in self.carries:
            hint = near_names(view, self.carries)
            raise ConfigError(
                f'view {view!r} is not derived from another one, so nothing can be carried into it; {hint}. '
                "Name it in the distiller's views"
            )
        return self.carries[view](maps)


def merge_passes(requests: Iterable[Pass], trained: Collection[str] = (STUDENT,)) -> list[Pass]:
    """Merge requests so that each network runs at most once per view.

    Args:
        requests: Passes in any order.
        trained: Names of the networks that are trained.

    Returns:
        One pass per (network, view): teachers first, then what is trained, otherwise in the order of first request.
    """
    merged: dict[tuple[str, str], Pass] = {}
    for request in requests:
        key = (request.network, request.view)
        merged[key] = merged[key].merge(request) if key in merged else request
    return sorted(merged.values(), key=lambda request: request.network in trained)
