"""Writing files so that a power cut leaves the old content or the new one, never a mixture.

Order of a replacement: temporary file, `fdatasync`, rename, `fsync` of the folder. Every
`OSError` becomes a `StorageError` that names the file; a full disk has a code of its own.
"""

from __future__ import annotations

import errno
import os
import secrets
from typing import TYPE_CHECKING

from konsil.protocol.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

COPIED_BYTES = 1 << 20
TEMPORARY = ".tmp"
"""The suffix of a file that is not finished; what a crash leaves under it is never read."""

AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How everything in a home is opened: a link is not followed, and a pipe is not waited for."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DiskFullError(StorageError):
    """There is no room for what must be written."""

    code = "disk_full"


def storage_error(place: Path, error: OSError) -> StorageError:
    """The error of our tree for a failed system call on `place`."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return DiskFullError(f"{place}: {reason}", hint="free some space, then start again")
    return StorageError(f"{place}: {reason}", hint="check the disk and its permissions")


def sync_file(path: Path) -> None:
    """Makes the content of a file durable that something else wrote. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR | AS_IT_IS)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable. Raises `OSError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Folders:
    """Folders below one that exists, made when needed, with durable names.

    A folder that is there may have been made by a process that was killed before it synced the
    name: every folder is synced once in the life of this object.
    """

    def __init__(self, top: Path) -> None:
        self._sure = {top}

    def make(self, folder: Path) -> None:
        """Creates `folder`, at or below the top, where it is missing. Raises `OSError`."""
        unsure = []
        while folder not in self._sure:
            unsure.append(folder)
            folder = folder.parent
        for item in reversed(unsure):
            item.mkdir(exist_ok=True)
            sync_folder(item.parent)
            self._sure.add(item)


def write_all(handle: int, data: bytes, offset: int) -> None:
    """Writes all of `data` at `offset` of an open file. Raises `OSError`."""
    view = memoryview(data)
    while view:
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


def write_at(path: Path, data: bytes, offset: int) -> None:
    """Ends the file at `path` with `data` from `offset` on, durably; makes it when it is missing.

    Raises `StorageError`; then what stood before `offset` is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | AS_IT_IS, 0o644)
        try:
            os.ftruncate(handle, offset)
            write_all(handle, data, offset)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        if fresh:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def begin(path: Path, mode: int = 0o644) -> int:
    """A new file under this very name, open for writing. Raises `OSError`.

    It follows no link and writes into nothing that was there before.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | AS_IT_IS, mode)


def afresh(path: Path, mode: int = 0o644) -> int:
    """As `begin`, for an unfinished file of ours: what a stop left under its name goes first."""
    try:
        return begin(path, mode)
    except FileExistsError:
        os.unlink(path)
        return begin(path, mode)


def copy(file: BinaryIO, path: Path, length: int) -> None:
    """The next `length` bytes of an open file, durable in an unfinished one of ours.

    Raises `OSError`.
    """
    handle, done = afresh(path), 0
    try:
        while piece := file.read(min(COPIED_BYTES, length - done)):
            write_all(handle, piece, done)
            done += len(piece)
        os.fsync(handle)
    finally:
        os.close(handle)


def stage(path: Path, data: bytes) -> Path:
    """Writes a temporary file beside `path`, its content durable, and returns its path.

    For the folders of a home, where such a name is nobody else's. Raises `OSError`, after
    removing the file.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    _fill(temporary, afresh(temporary), data)
    return temporary


def _fill(path: Path, handle: int, data: bytes) -> None:
    """Writes a new file and closes it; one that cannot be finished is removed."""
    try:
        try:
            write_all(handle, data, 0)
            os.fdatasync(handle)
        finally:
            os.close(handle)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def replace(path: Path, data: bytes) -> None:
    """Replaces, or creates, `path` with `data`, atomically and durably. Raises `StorageError`."""
    try:
        os.replace(stage(path, data), path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def put(path: Path, data: bytes) -> None:
    """As `replace`, in a folder of other people: no file there is touched but `path`.

    The unfinished file has a name that nobody can foresee. Raises `StorageError`.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}{TEMPORARY}")
    try:
        _fill(temporary, begin(temporary), data)
        try:
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
