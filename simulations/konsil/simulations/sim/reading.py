"""Reading: the content of a file that somebody named, if it is a file and of a sensible size.

A pipe is not waited for, a device is not drained, and what is too large is refused before it is
read, so that a wrong path costs neither time nor memory. Nothing is written.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


class Unsuitable(OSError):
    """What is there is no plain file, or more than was asked for."""


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """All of a file. Raises as `expect_file` does."""
    with _opened(path, most_bytes) as file:
        raw = file.read(most_bytes + 1)
    if len(raw) > most_bytes:  # it has grown since
        raise _too_large(most_bytes)
    return raw


def expect_file(path: Path, most_bytes: int) -> None:
    """Nothing, where the file at `path` can be read and is no larger than that.

    Raises `Unsuitable` for what is no plain file or too large, `OSError` as the system does, and
    `ValueError` for a path that no system can have.
    """
    with _opened(path, most_bytes):
        pass


def reason(error: OSError | ValueError) -> str:
    """Why, without the number and the path that Python adds."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


@contextlib.contextmanager
def _opened(path: Path, most_bytes: int) -> Iterator[BinaryIO]:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Unsuitable(0, "this is no plain file")
        if found.st_size > most_bytes:
            raise _too_large(most_bytes)
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def _too_large(most_bytes: int) -> Unsuitable:
    return Unsuitable(0, f"this is larger than {most_bytes / 1e6:g} MB")
