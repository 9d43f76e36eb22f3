"""Reading checkpoints: never by running code from the file, and never into another model."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.utils.dl_utils import load_url
from torch import Tensor, nn

from castkd.errors import CheckpointError

STUDENT_PREFIX = 'student.'
_SHOWN_KEYS = 3


def load_checkpoint(path: str | Path, map_location: str | torch.device = 'cpu') -> dict:
    """Read a checkpoint file without running any code from it.

    Tensors, plain Python containers, NumPy arrays and mmengine's logging buffers are read; everything else is refused.

    Args:
        path: The file.
        map_location: Where tensors are put.

    Returns:
        The content: an mm checkpoint (``state_dict``, ``meta``, ...) or a bare state dict.

    Raises:
        CheckpointError: When the file is missing, damaged, no checkpoint, or needs code to be run.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = 'is a folder, not a file' if path.is_dir() else 'does not exist'
        raise CheckpointError(f'checkpoint {str(path)!r} {kind}; check the path')
    content = _read(path, map_location)
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{str(path)!r} holds a {type(content).__name__}, not a checkpoint; '
            'give a file that mmengine or export_student wrote'
        )
    return content


def _read(
    file: Any,  # noqa: ANN401 - a path or an open file, as torch.load takes
    map_location: Any = None,  # noqa: ANN401 - as torch.load takes
    weights_only: bool | None = True,
) -> Any:  # noqa: ANN401 - whatever the file holds
    """Stand in for ``mmengine.runner.checkpoint._safe_torch_load``, without its way around ``weights_only``."""
    del weights_only
    try:
        with torch.serialization.safe_globals(mmengine_checkpoint.get_torch_safe_globals()):
            return torch.load(file, map_location=map_location, weights_only=True)
    except Exception as error:
        # A damaged file fails in many ways (OSError, EOFError, KeyError, RuntimeError, UnpicklingError).
        name = str(file) if isinstance(file, (str, Path)) else 'downloaded checkpoint'
        code = re.search(r'GLOBAL (\S+)', str(error))
        if code:
            raise CheckpointError(
                f'checkpoint {name!r} would run code from the file when loaded ({code[1]}) and is refused; '
                'save it again with tensors and plain values only'
            ) from error
        raise CheckpointError(
            f'{name!r} is truncated, damaged or no checkpoint ({type(error).__name__}); copy or train it again'
        ) from error


def _load_local(filename: str, map_location: Any = None) -> dict:  # noqa: ANN401 - as torch.load takes
    return load_checkpoint(filename, map_location)


def guard_unsafe_fallback() -> None:
    """Make mmengine refuse checkpoints that need code to be run, instead of loading them with a warning.

    When the safe way fails, mmengine loads the file with ``weights_only=False``. After this call ``load_from``,
    ``resume`` and ``init_cfg=dict(type='Pretrained')`` all read through :func:`load_checkpoint`, or, for addresses,
    through the same reader. This is the one place where castkd changes mmengine. Calling it again changes nothing.
    """
    # mmengine prints the loader's name without its first ten characters ("load_from_").
    _load_local.__name__ = 'load_from_local'
    mmengine_checkpoint.CheckpointLoader.register_scheme('', _load_local, force=True)
    mmengine_checkpoint._safe_torch_load = _read
    mmengine_checkpoint.load_url = partial(load_url, weights_only=True)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        CheckpointError: When the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(
            f'cannot read {str(path)!r}: {error.strerror}; check the path'
        ) from error
    return digest.hexdigest()


def student_state(checkpoint: Mapping[str, Any]) -> OrderedDict[str, Tensor]:
    """Return the weights of the plain model in a checkpoint.

    Of a distiller's checkpoint these are the entries under ``student.``, with that prefix cut once and nothing else
    changed; of any other checkpoint, all entries.

    Args:
        checkpoint: Content of the file.

    Raises:
        CheckpointError: When there are no weights in it.
    """
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, Mapping) or not any(torch.is_tensor(v) for v in state.values()):
        found = ', '.join(map(str, list(checkpoint)[:_SHOWN_KEYS])) or 'nothing'
        raise CheckpointError(
            f'the checkpoint holds no weights (it has: {found}); expected a state_dict'
        )
    metadata = getattr(state, '_metadata', None) or {}
    if any(key.startswith(STUDENT_PREFIX) for key in state):
        state = _cut_prefix(state, STUDENT_PREFIX)
        # Module versions, which state-dict converters read; the student's own entry has no dot.
        metadata = _cut_prefix(
            {f'{key}.': value for key, value in metadata.items()}, STUDENT_PREFIX
        )
        metadata = {key.removesuffix('.'): value for key, value in metadata.items()}
    plain = OrderedDict(state)
    plain._metadata = OrderedDict(metadata)
    return plain


def _cut_prefix(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {
        key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)
    }


def load_strict(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    *,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> None:
    """Load weights into a model and refuse everything that does not fit.

    Args:
        model: Receives the weights.
        state: Tensor per name.
        source: Where the weights come from, for the error message.
        allow_missing: Prefixes of the model's names that ``state`` may lack.
        allow_unexpected: Prefixes of names in ``state`` that the model may lack.

    Raises:
        CheckpointError: When names or shapes differ; the line lists how many and the first of each.
    """
    own = model.state_dict()
    shapes = [
        f'{key} {tuple(value.shape)} in the file, {tuple(own[key].shape)} in the model'
        for key, value in state.items()
        if key in own and value.shape != own[key].shape
    ]
    if shapes:
        missing = [key for key in own if key not in state]
        unexpected = [key for key in state if key not in own]
    else:
        # Also runs the converters of older versions that some mm modules have.
        missing, unexpected = model.load_state_dict(state, strict=False)
    problems = [
        *_listed('missing key', _not_allowed(missing, allow_missing)),
        *_listed('unexpected key', _not_allowed(unexpected, allow_unexpected)),
        *_listed('other shape', shapes),
    ]
    if problems:
        raise CheckpointError(
            f'{source!r} is a checkpoint of another model: {"; ".join(problems)}; '
            'use it with the config that it was made with'
        )


def _not_allowed(keys: Iterable[str], prefixes: Sequence[str]) -> list[str]:
    return [key for key in keys if not key.startswith(tuple(prefixes))]


def _listed(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = ', ...' if len(items) > _SHOWN_KEYS else ''
    plural = 's' if len(items) > 1 else ''
    return [f'{len(items)} {what}{plural} ({", ".join(items[:_SHOWN_KEYS])}{more})']
