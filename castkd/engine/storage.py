"""Local files that are either whole or not there.

mmengine writes checkpoints and JSON in place: a kill or a full disk leaves half a file under the final name.
"""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances

from castkd.errors import DataError


class AtomicLocalBackend(LocalBackend):
    """mmengine's local storage with whole-file writes.

    A file is written beside its final name, flushed to the disk and renamed: readers see the old content or the new.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Args:
            obj: Content.
            filepath: Destination; missing folders are made.

        Raises:
            DataError: When the folder cannot be written or its disk is full. The old file, if any, is as it was.
        """
        path = Path(filepath)
        partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_through(partial, obj)
            os.replace(partial, path)
        except OSError as error:
            raise DataError(
                f'{path.name}: cannot be written to {str(path.parent)!r} ({error.strerror or error}); '
                'free space there or choose another folder (work_dir)'
            ) from error
        finally:
            _remove(partial)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text as :meth:`put` writes bytes."""
        self.put(obj.encode(encoding), filepath)


def install_atomic_storage() -> None:
    """Let everything that mmengine writes to local paths go through :class:`AtomicLocalBackend`.

    Safe to call more than once.
    """
    register_backend('local', AtomicLocalBackend, force=True, prefixes='')
    for key, backend in list(backend_instances.items()):
        if isinstance(backend, LocalBackend):
            del backend_instances[key]


def _write_through(path: Path, content: bytes) -> None:
    with open(path, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    """Remove what a failed write left; a failure here would hide the first error."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return
