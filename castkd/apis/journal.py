"""Progress of a long job, on disk, so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from castkd.errors import DataError


class Journal:
    """Finished batches of a job, one JSON line each, below a header that says which job it is.

    A line counts when it is complete; half a line at the end, from a kill, is cut off.

    Args:
        path: The journal file.
        header: What must be the same for the batches to be of this job.
        resume: Whether an existing journal is continued; otherwise it is started anew.

    Attributes:
        batches: Content of the finished batches, in order.

    Raises:
        DataError: When the existing journal is of another job, the folder is not writable or the disk is full.
    """

    def __init__(self, path: str | Path, header: Mapping[str, Any], resume: bool = True) -> None:
        self.path = Path(path)
        self.batches: list[Any] = []
        self._header = json.loads(json.dumps(header))
        valid = self._read() if resume and self.path.is_file() else 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, 'r+b' if valid else 'wb')  # noqa: SIM115 - closed by close()
            self._file.truncate(valid)
            self._file.seek(valid)
        except OSError as error:
            raise self._unwritable(error) from error
        if not valid:
            self._write(self._header)

    def append(self, batch: Any) -> None:  # noqa: ANN401 - anything that JSON holds
        """Store one finished batch; it survives a kill of the process."""
        self._write(batch)
        self.batches.append(batch)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def remove(self) -> None:
        """Close and delete the file: the job is done."""
        self.close()
        self.path.unlink()

    def _read(self) -> int:
        """Read the complete lines and return how many bytes they take."""
        content = self.path.read_bytes()
        complete = content[: content.rfind(b'\n') + 1]
        if not complete:
            return 0
        try:
            header, *self.batches = [json.loads(line) for line in complete.splitlines()]
        except ValueError as error:
            raise DataError(
                f'{str(self.path)!r} is damaged ({error}); delete it to start again'
            ) from error
        if header != self._header:
            keys = {*header, *self._header} if isinstance(header, dict) else {'format'}
            changed = sorted(key for key in keys if header.get(key) != self._header.get(key))
            raise DataError(
                f'{str(self.path)!r} was begun with another {", ".join(changed)}; '
                'use the options that it was begun with, or start again without resuming'
            )
        return len(complete)

    def _write(self, content: Any) -> None:  # noqa: ANN401 - anything that JSON holds
        try:
            self._file.write(json.dumps(content).encode() + b'\n')
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> DataError:
        reason = error.strerror or error
        return DataError(
            f'cannot write {str(self.path)!r}: {reason}; free space or choose another folder'
        )
