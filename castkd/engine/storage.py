"""Local files that are either whole or not there.

mmengine writes checkpoints and JSON in place: a kill or a full disk leaves half a file under the final name.
"""

from __future__ import annotations

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.io import backend_instances

from castkd.files import write_file


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
        write_file(filepath, obj)

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
