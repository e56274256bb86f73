"""Opening the files of a home for reading: as an audit does, because a home is what lies there.

Whoever can put a file into a home could put a link, a pipe or a device in its place, and a node
that followed or waited for it would read what is not its own, or never start. So only a regular
file is opened, through no link, without waiting, and of no more bytes than it may have. What a
file says is for whoever asks for it; a missing one is left to them too.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from konsil.node.store.durable import storage_error
from konsil.protocol.errors import RemoteError, StorageError
from konsil.trust.sources import open_regular, read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader
    from pathlib import Path

ENDLESS = 2**63 - 1
"""No bound, for what is read in pieces."""
HINT = "find out who put it there, then put the genuine file back"


def whole(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes.

    Raises `FileNotFoundError`, and `StorageError` for anything else that stands there.
    """
    with _refusing(path):
        return read_file(path, limit)


def opened(path: Path) -> tuple[BufferedReader, int]:
    """A regular file, open for reading, and its size in bytes. Raises as `whole` does."""
    with _refusing(path):
        return open_regular(path, ENDLESS)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if isinstance(error.__cause__, NotADirectoryError):
            raise storage_error(path, error.__cause__) from error
        raise
    except RemoteError as error:
        raise StorageError(error.message, hint=HINT) from error
