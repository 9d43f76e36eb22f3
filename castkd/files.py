"""Files are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from castkd.errors import DataError


def partial_path(path: Path) -> Path:
    """Return the name beside ``path`` under which its content is prepared by this process."""
    return path.with_name(f'.{path.name}.{os.getpid()}.partial')


def write_file(path: str | Path, content: bytes | str) -> None:
    """Write a file beside its final name, flush it to the disk, and rename it.

    Readers see the old content or the new. Missing folders are made; text is stored as UTF-8.

    Args:
        path: Destination.
        content: The whole content.

    Raises:
        DataError: When the folder cannot be written or its disk is full. The old file, if any, is as
            it was.
    """
    path = Path(path)
    partial = partial_path(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_through(partial, data)
        os.replace(partial, path)
    except OSError as error:
        raise DataError(
            f'{path.name}: cannot be written to {str(path.parent)!r} ({error.strerror or error}); '
            'free space there or choose another folder (work_dir)'
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _write_through(path: Path, data: bytes) -> None:
    with open(path, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
