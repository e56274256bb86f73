"""The tail of a ledger: the one file that grows, `tail.<start>`.

`append` returns when the bytes are durable. When a write fails the file is cut back to its
last durable length, so that no half frame stands before the next one; when that or the
sync fails nothing is known about the disk any more, and the tail refuses further use.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from konsil.node.store.durable import AS_IT_IS, stage, storage_error, sync_folder, write_all
from konsil.protocol.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "tail."


class TailFile:
    """An open tail whose first frame is entry `start`; `length` bytes of it are durable."""

    def __init__(self, path: Path, start: int, length: int) -> None:
        """Opens an existing file. Raises `StorageError`."""
        self.path = path
        self.start = start
        self._length = length
        self._broken = False
        try:
            self._handle = os.open(path, os.O_RDWR | AS_IT_IS)
        except OSError as error:
            raise storage_error(path, error) from error

    @classmethod
    def create(cls, folder: Path, start: int, frames: bytes) -> TailFile:
        """A new durable tail with these frames. Raises `StorageError`."""
        path = folder / f"{PREFIX}{start}"
        try:
            os.replace(stage(path, frames), path)
            sync_folder(folder)
        except OSError as error:
            raise storage_error(path, error) from error
        return cls(path, start, len(frames))

    def append(self, data: bytes) -> None:
        """Adds bytes, durable on return. Raises `StorageError`; then nothing was added."""
        if self._broken:
            raise StorageError(f"{self.path}: failed before", hint="start the node again")
        try:
            write_all(self._handle, data, self._length)
        except OSError as error:
            self._cut_back()
            raise storage_error(self.path, error) from error
        try:
            os.fdatasync(self._handle)
        except OSError as error:
            self._broken = True
            raise storage_error(self.path, error) from error
        self._length += len(data)

    def discard(self) -> None:
        """Closes the file and removes it, because a newer tail replaces it."""
        self.close()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Closes the file; later appends are refused."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
        self._broken = True

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._handle, self._length)
            os.fdatasync(self._handle)
        except OSError:
            self._broken = True
