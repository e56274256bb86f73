"""Fetching: the files of a data set into the data folder, from their publisher or from a folder.

A file appears under its name only when it is complete, durable and of an accepted digest; until
then it is a hidden file beside it. What is there already is never overwritten: a good file stays,
one that differs is an error. A download that was cut off goes on where it stopped; no more bytes
are taken than the catalogue grants. Standard library only, free of torch and numpy.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.knowledge.data import checking
from konsil.knowledge.data.receiving import receive
from konsil.protocol.errors import IncompleteError, StorageError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from konsil.knowledge.data.checking import Held
    from konsil.knowledge.data.origins import DataSet, File

KEPT, COPIED, DOWNLOADED = "kept", "copied", "downloaded"


@dataclass(frozen=True)
class Brought:
    """One file that is there now, and how it came."""

    held: Held
    how: str
    """`KEPT` (was there), `COPIED` or `DOWNLOADED`."""


def fetch(
    data_set: DataSet, top: Path, *, source: Path | None = None, tell: Callable[[str], None]
) -> tuple[Brought, ...]:
    """Every file of a data set below `top`, good; from the folder `source`, else downloaded.

    `source` holds the files, or the set's folder with them. `tell` gets a line before each
    download. Raises `VerificationError` where content is not accepted, `LimitExceeded` where
    there is too much, `UnreachableError` and `IncompleteError` where it is not to be had, and
    `StorageError` for the disk.
    """
    return tuple(_bring(data_set, file, top, source, tell) for file in data_set.files)


def _bring(
    data_set: DataSet, file: File, top: Path, source: Path | None, tell: Callable[[str], None]
) -> Brought:
    target = top / data_set.folder / file.name
    there = checking.look(file, target)
    if there.state == checking.GOOD:
        return Brought(there, KEPT)
    if there.state == checking.DIFFERS:
        raise VerificationError(
            f"{target} is there and is none of the accepted copies",
            hint="move it away, then fetch again",
        )
    if source is None and not file.address:
        raise IncompleteError(
            f"{data_set.name}: {file.name} is published nowhere in this form",
            hint=data_set.remark or "give a folder that has it with --from DIR",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checking.unreadable(target.parent, error) from error
    origin = None if source is None else _origin(data_set, file, source)
    with _unfinished(target) as part:
        if origin is None:
            tell(f"fetching {file.address}")
            _download(file, part)
        else:
            _copy(file, origin, part)
        _finish(file, part, target)
    return Brought(checking.look(file, target), DOWNLOADED if origin is None else COPIED)


@contextmanager
def _unfinished(target: Path) -> Iterator[BinaryIO]:
    """The hidden file in which `target` grows, with what is there of it; ours alone.

    An interruption leaves it, so that a download can go on.
    """
    path = target.with_name(f".{target.name}.part")
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o644), "r+b") as part:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have renamed it meanwhile: then this is the finished file.
            if not path.exists() or not os.path.samestat(os.fstat(part.fileno()), path.stat()):
                raise BlockingIOError
            try:
                yield part
            finally:
                if part.seek(0, os.SEEK_END) == 0:
                    path.unlink(missing_ok=True)
    except BlockingIOError:
        raise StorageError(
            f"{target}: another fetch is under way", hint="wait for it, then try again"
        ) from None
    except OSError as error:
        raise checking.unreadable(path, error) from error


def _download(file: File, part: BinaryIO) -> None:
    """The file's bytes from its address; what a stop left is continued, or begun again."""
    resumed = os.fstat(part.fileno()).st_size > 0
    receive(file, part)
    if resumed and not _accepted(file, part):
        # It was the beginning of something else: one more time, from nothing.
        part.truncate(0)
        receive(file, part)


def _copy(file: File, origin: Path, part: BinaryIO) -> None:
    part.truncate(0)
    part.seek(0)
    with origin.open("rb") as reading:
        if os.fstat(reading.fileno()).st_size > file.most_bytes:
            raise VerificationError(f"{origin} is larger than any accepted copy")
        shutil.copyfileobj(reading, part)


def _origin(data_set: DataSet, file: File, source: Path) -> Path:
    for path in (source / data_set.folder / file.name, source / file.name):
        if path.is_file():
            return path
    raise IncompleteError(
        f"{source} has no {file.name}", hint=f"{data_set.name} needs that file in the folder"
    )


def _accepted(file: File, part: BinaryIO) -> bool:
    content = checking.content_of_open(part)
    return file.accepted(content.digests) is not None


def _finish(file: File, part: BinaryIO, target: Path) -> None:
    """Gives a complete file its name, durably. Raises `VerificationError` and removes the part."""
    unfinished = target.with_name(f".{target.name}.part")
    content = checking.content_of_open(part)
    if file.accepted(content.digests) is None:
        unfinished.unlink()
        raise VerificationError(
            f"{file.name}: what came ({content.size} bytes, SHA-256 {content.sha256}) is none of "
            "the accepted copies",
            hint="nothing was kept; the publisher may have changed it",
        )
    part.flush()
    os.fsync(part.fileno())
    os.replace(unfinished, target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
