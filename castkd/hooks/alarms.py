"""What the watchdog counts, and when that is an alarm."""

from __future__ import annotations

from collections.abc import Mapping

_NO_INSTANCE = 'no image had an instance? check labels, class names and the pseudo-label threshold'
# Part of a loss's name -> where a value that is always 0 comes from; the first hit counts.
_CAUSES = {
    'loss_pixel': 'no valid anchors? check the valid mask, instance ids and cue',
    'loss_mask': _NO_INSTANCE,
    'loss_dice': _NO_INSTANCE,
    'loss_bbox': _NO_INSTANCE,
    'loss_iou': _NO_INSTANCE,
    '': "no targets, or a loss_weight of 0? check the objective's inputs",
}
_SHOWN_TERMS = 3


class Alarms:
    """Counts the first steps of objectives and pseudo-labels and says, once, what was dead in them.

    Args:
        window: Steps after which each is judged.

    Attributes:
        state: All counters in plain types; may be replaced by those of an earlier run.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.state: dict[str, dict] = {'steps': {}, 'peaks': {}, 'pseudo': {}}

    def objective(self, name: str, losses: Mapping[str, float]) -> list[str]:
        """Count one step of an active objective.

        Args:
            name: The objective.
            losses: Losses of the step as ``<objective>.<term>``, also those of others.

        Returns:
            Warnings, when this step fills the window.
        """
        if not self._is_open(name):
            return []
        peaks = self.state['peaks'].setdefault(name, {})
        for term, value in losses.items():
            if term.startswith(f'{name}.') and 'loss' in term:
                peaks[term] = max(peaks.get(term, 0.0), abs(float(value)))
        if not self._fills(name):
            return []
        if not peaks:
            return [
                f'objective {name!r} has a weight above 0 but returned no loss in the first {self.window} steps: '
                'do its views reach the batch, and do its losses have "loss" in their names?'
            ]
        return self._dead_terms(peaks)

    def pseudo_labels(self, statistics: Mapping[str, float]) -> list[str]:
        """Count one step's pseudo-labels.

        Args:
            statistics: Of the step; where pseudo-labels were made they have ``pseudo.candidates``,
                ``pseudo.images_with_labels`` and ``pseudo.max_score``.

        Returns:
            A warning, when this step fills the window and no label ever reached the student.
        """
        if 'pseudo.candidates' not in statistics or not self._is_open('pseudo-labels'):
            return []
        seen = self.state['pseudo']
        for key in ('candidates', 'images_with_labels'):
            seen[key] = seen.get(key, 0.0) + float(statistics[f'pseudo.{key}'])
        seen['max_score'] = max(seen.get('max_score', 0.0), float(statistics['pseudo.max_score']))
        if not self._fills('pseudo-labels') or seen['images_with_labels']:
            return []
        cause = (
            f'none of {seen["candidates"]:.0f} predictions became a label; the highest score was '
            f'{seen["max_score"]:.3f}: below score_thr of pseudo_labeler? If not, do the two views overlap?'
            if seen['candidates']
            else 'the teacher predicted nothing: is it the right checkpoint, are these its kind of images?'
        )
        return [f'pseudo-labels were empty in each of the first {self.window} steps: {cause}']

    def _is_open(self, name: str) -> bool:
        return self.state['steps'].get(name, 0) < self.window

    def _fills(self, name: str) -> bool:
        steps = self.state['steps']
        steps[name] = steps.get(name, 0) + 1
        return steps[name] == self.window

    def _dead_terms(self, peaks: Mapping[str, float]) -> list[str]:
        """Return one line per cause, naming the terms that were always 0."""
        dead: dict[str, list[str]] = {}
        for term, peak in peaks.items():
            if peak == 0.0:
                cause = next(text for part, text in _CAUSES.items() if part in term)
                dead.setdefault(cause, []).append(term)
        return [
            f'{_listed(terms)} 0 in each of the first {self.window} steps: {cause}'
            for cause, terms in dead.items()
        ]


def _listed(terms: list[str]) -> str:
    more = f' and {len(terms) - _SHOWN_TERMS} more' if len(terms) > _SHOWN_TERMS else ''
    return ', '.join(terms[:_SHOWN_TERMS]) + more + (' was' if len(terms) == 1 else ' were')
