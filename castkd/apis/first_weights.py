"""The first weights of a network as a checkpoint: what a foundation model knows before any training."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from castkd.apis.student import build_model, dataset_meta, read_config, student_config
from castkd.errors import DataError
from castkd.files import write_file
from castkd.version import __version__


def save_first_weights(
    config: str | Path | Config,
    out: str | Path,
    cfg_options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the weights that the network of a config starts from, which the config reads from a hub or from files.

    With the file the network is tested and labels images like a trained one: zero-shot. Parts for which the config
    names no weights are random.

    Args:
        config: Config of a distiller (its student is taken) or of a plain mmdet or mmseg model.
        out: The checkpoint to write.
        cfg_options: New config values by dotted key.

    Returns:
        The checkpoint.

    Raises:
        ConfigError: When the config is wrong.
        CheckpointError: When first weights are missing, damaged or of another network.
        DataError: When the file cannot be written.
    """
    plain = student_config(read_config(config, cfg_options))
    model = build_model(plain)
    model.init_weights()
    meta = {
        'dataset_meta': dataset_meta(plain, {}, str(out)),
        'castkd': {'first_weights_of': str(plain.filename), 'castkd_version': __version__},
    }
    buffer = io.BytesIO()
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, buffer)
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, buffer.getvalue())
    except OSError as error:
        raise DataError(
            f'first weights: cannot write {str(path)!r} ({error.strerror or error}); choose another place'
        ) from error
    return path
