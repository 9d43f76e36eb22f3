"""Which data split and which teachers a checkpoint comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.hooks import Hook

from castkd.errors import CheckpointError
from castkd.hooks.common import distiller_of, is_resumed
from castkd.registry import HOOKS
from castkd.version import __version__

if TYPE_CHECKING:
    from mmengine.runner import Runner

META_KEY = 'castkd'


@HOOKS.register_module()
class Provenance(Hook):
    """Record what a training was made from, and refuse to resume it with something else.

    Acts before training, where it reads the split of the training set and the teachers' files, and before each
    checkpoint, where it stores them in ``meta['castkd']``: ``version``, ``teachers`` (file and SHA-256 by name) and
    ``split`` (checksum, fraction, seed and counts; None without a split). On a resume it compares the stored record
    with the present one.
    """

    def __init__(self) -> None:
        self._record: dict = {}
        self._loaded: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the record of a checkpoint; whether it is resumed is known before training only."""
        self._loaded = checkpoint.get('meta', {}).get(META_KEY)

    def before_train(self, runner: Runner) -> None:
        """Make the record.

        Raises:
            CheckpointError: When a run resumes with another split or another teacher file.
        """
        self._record = {
            'version': __version__,
            'teachers': distiller_of(runner).provenance(),
            'split': _split(runner.train_dataloader.dataset),
        }
        if is_resumed(runner) and self._loaded is not None:
            _compare(self._loaded, self._record)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the record."""
        checkpoint['meta'][META_KEY] = self._record


def _split(dataset: Any) -> dict | None:  # noqa: ANN401 - any dataset
    split = getattr(dataset, 'split', None)
    if split is None:
        return None
    return {
        'checksum': split.checksum,
        'fraction': split.fraction,
        'seed': split.seed,
        'counts': {'labeled': len(split.labeled), 'unlabeled': len(split.unlabeled)},
    }


def _compare(stored: dict, present: dict) -> None:
    before, now = ((record['split'] or {}).get('checksum') for record in (stored, present))
    if before != now:
        raise CheckpointError(
            f'resume: the checkpoint was trained on split {before}, this run has split {now}; use the same split '
            '(file, fraction, seed and images), or start anew in another work_dir'
        )
    for name in {**stored['teachers'], **present['teachers']}:
        before, now = (record['teachers'].get(name, {}) for record in (stored, present))
        if before.get('sha256') != now.get('sha256'):
            raise CheckpointError(
                f'resume: the checkpoint was trained with teacher {name!r} from {_file(before)}, this run has '
                f'{_file(now)}; give the same file, or start anew in another work_dir'
            )


def _file(origin: dict) -> str:
    return f'{origin["file"]!r} (SHA-256 {origin["sha256"][:12]}...)' if origin else 'no file'
