"""Checking: which files of a data set are in a folder, and whether they are the pinned ones.

Reads files and writes none. Free of torch and numpy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.protocol.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from konsil.knowledge.data.origins import Copy, DataSet, File

GOOD, ABSENT, DIFFERS = "good", "absent", "differs"

_PIECE = 1 << 20


@dataclass(frozen=True)
class Content:
    """The size and digests of a file, in hex."""

    size: int
    sha256: str
    md5: str

    @property
    def digests(self) -> dict[str, str]:
        """By algorithm, as `File.accepted` wants them."""
        return {"sha256": self.sha256, "md5": self.md5}


@dataclass(frozen=True)
class Held:
    """One file of a data set as it is on this disk."""

    path: Path
    state: str
    """`GOOD`, `ABSENT` or `DIFFERS`."""
    content: Content | None = None
    copy: Copy | None = None
    """Which accepted copy it is."""


def held(data_set: DataSet, top: Path) -> tuple[Held, ...]:
    """Each file of a data set below the data folder `top`, its digest compared with the pins.

    Raises `StorageError` for a file that cannot be read.
    """
    return tuple(look(file, top / data_set.folder / file.name) for file in data_set.files)


def look(file: File, path: Path) -> Held:
    """A file as it is at `path`. Raises `StorageError`."""
    try:
        if not path.exists():
            return Held(path, ABSENT)
        if not path.is_file() or path.stat().st_size > file.most_bytes:
            return Held(path, DIFFERS)
        content = content_of(path)
    except OSError as error:
        raise unreadable(path, error) from error
    copy = file.accepted(content.digests)
    return Held(path, DIFFERS if copy is None else GOOD, content, copy)


def content_of(path: Path) -> Content:
    """The size and digests of a file. Raises `OSError`."""
    with path.open("rb") as file:
        return content_of_open(file)


def content_of_open(file: BinaryIO) -> Content:
    """As `content_of`, of an open file, from its beginning. Raises `OSError`."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    file.seek(0)
    while piece := file.read(_PIECE):
        sha256.update(piece)
        md5.update(piece)
        size += len(piece)
    return Content(size, sha256.hexdigest(), md5.hexdigest())


def state_of(files: tuple[Held, ...]) -> str:
    """The state of a whole set: differs before incomplete; good when every file is."""
    states = {one.state for one in files}
    if DIFFERS in states:
        return DIFFERS
    if len(states) > 1:
        return "incomplete"
    return states.pop()


def unreadable(path: Path, error: OSError) -> StorageError:
    """The error of our tree for a failed system call on `path`."""
    return StorageError(
        f"{path}: {error.strerror or error}", hint="check the disk and its permissions"
    )
