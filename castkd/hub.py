"""Networks of the transformers library, which is an extra: its import, and weights by hub name or folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from castkd.errors import CastkdError, CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import nn

WEIGHT_FILES = ('model.safetensors', 'model.safetensors.index.json')


class MissingExtraError(CastkdError, ImportError):
    """The transformers library is not installed."""


def transformers(owner: str) -> ModuleType:
    """Return the library, imported when it is first asked for: it takes seconds.

    Args:
        owner: Who asks, for the error message.

    Raises:
        MissingExtraError: When it is not installed; it says how to install it.
    """
    try:
        import transformers as library
    except ImportError as error:
        raise MissingExtraError(
            f"{owner} needs the transformers library, which is not installed: pip install -e '.[vfm]' in castkd's "
            'folder, or pip install transformers'
        ) from error
    return library


def build_config(name: str, options: Mapping[str, Any], owner: str) -> Any:  # noqa: ANN401 - the library's configs
    """Return a config of the library.

    Args:
        name: Its class, such as ``Dinov2Config``.
        options: What differs from the class's defaults.
        owner: Who asks, for the error message.

    Raises:
        ConfigError: When an option is wrong.
    """
    library = transformers(owner)
    from huggingface_hub.errors import StrictDataclassError

    try:
        return getattr(library, name)(**options)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = ' '.join(str(error).split())
        raise ConfigError(f'{owner}: these options are no {name} ({reason})') from error


def read_config(source: str, owner: str, name: str = 'AutoConfig') -> Any:  # noqa: ANN401 - the library's configs
    """Return the config of a model in a folder or on the hub, see :func:`load_pretrained`.

    Args:
        source: Folder or name on the hub.
        owner: Who asks, for the error message.
        name: Class of the config; ``AutoConfig`` takes that of the model that was saved.

    Raises:
        CheckpointError: When it is neither there nor reachable.
    """
    return _read(getattr(transformers(owner), name), source, owner, 'config')


def read_tokenizer(source: str, owner: str) -> Any:  # noqa: ANN401 - the library's tokenizers
    """Return the tokenizer of a model in a folder or on the hub, see :func:`load_pretrained`.

    Raises:
        CheckpointError: When it is neither there nor reachable.
    """
    return _read(transformers(owner).AutoTokenizer, source, owner, 'tokenizer')


def _read(reader: type, source: str, owner: str, what: str) -> Any:  # noqa: ANN401
    local = _is_local(source)
    try:
        return reader.from_pretrained(_address(source, local), local_files_only=local)
    except (OSError, ValueError) as error:
        raise CheckpointError(_why(owner, what, source, local, error)) from error


def load_pretrained(network: nn.Module, source: str, owner: str) -> None:
    """Load the weights of a network of the transformers library.

    Weights are read as safetensors only: nothing in them is run. The file may hold more than the network (a head of
    another task), but not less.

    Args:
        network: Built from its config; receives the weights.
        source: Folder with ``config.json`` and ``model.safetensors`` (one file, or the index of several), or the name
            of a model on the Hugging Face hub, which is downloaded once and kept by that library.
        owner: Who asks, for the error message.

    Raises:
        CheckpointError: When the weights are neither there nor reachable, or belong to another network.
    """
    local = _is_local(source)
    if local:
        check_model_folder(Path(source).expanduser(), owner)
    try:
        found, info = type(network).from_pretrained(
            _address(source, local),
            config=network.config,
            local_files_only=local,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        # A download fails as OSError, other shapes as RuntimeError.
        raise CheckpointError(_why(owner, 'weights', source, local, error)) from error
    missing = sorted(info['missing_keys'])
    if missing:
        raise CheckpointError(
            f'{owner}: {source!r} holds weights of another network: {len(missing)} are missing ({missing[0]}, ...); '
            'give those of the configured one'
        )
    network.load_state_dict(found.state_dict())


def check_model_folder(folder: Path, owner: str) -> None:
    """Refuse a folder that is not laid out as the transformers library saves a model.

    Raises:
        CheckpointError: Naming the files that are expected.
    """
    weights = any((folder / name).is_file() for name in WEIGHT_FILES)
    if not (weights and (folder / 'config.json').is_file()):
        kind = 'lacks them' if folder.is_dir() else 'is no folder'
        raise CheckpointError(
            f'{owner}: weights are read from a folder with config.json and model.safetensors, and {str(folder)!r} '
            f'{kind}; save the model there with save_pretrained, or give its name on the Hugging Face hub'
        )


def _is_local(source: str) -> bool:
    """Tell a path from a name on the hub, which is ``owner/model`` at most."""
    return (
        Path(source).expanduser().exists()
        or source.startswith(('.', '/', '~'))
        or source.count('/') > 1
        or source.endswith('/')
    )


def _address(source: str, local: bool) -> str:
    return str(Path(source).expanduser()) if local else source


def _why(owner: str, what: str, source: str, local: bool, error: Exception) -> str:
    if local or not isinstance(error, OSError):
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return f'{owner}: the {what} of {source!r} cannot be loaded ({reason}); give that of this network'
    return (
        f'{owner}: the {what} of {source!r}, no folder here, cannot be had from the Hugging Face hub '
        f'({type(error).__name__}); connect once, or give a folder with config.json and model.safetensors'
    )
