"""Making the index of a ledger, and taking it away.

What it says and who may believe it stands in `konsil.trust.index`. Invariants: it is never
half-written (a temporary file, then a rename), and made in pieces it is the same as made at once.

It forgets nothing by itself: who takes a body away removes the index first (`drop`). Nobody else
may write the ledger meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from konsil.node.store.durable import (
    TEMPORARY,
    afresh,
    copy,
    storage_error,
    sync_file,
    sync_folder,
)
from konsil.node.store.reading import opened
from konsil.protocol.errors import StorageError
from konsil.trust.index import (
    KEPT_BYTES,
    TABLES,
    VERSION,
    IndexRefused,
    follows,
    open_index,
    read,
)
from konsil.trust.inplace import InPlace
from konsil.trust.layout import INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Row = tuple[int, str, int, set[bytes]]
    """Position, type, time, and the beginnings of what the body mentions."""

AT_ONCE = 1 << 15
"""Entries whose rows are written together."""


def update(folder: Path, *, most: int | None = None, anew: bool = False) -> int:
    """Brings the index up to the log, or makes one; how many entries it covers then.

    `most` bounds the entries that are added now; the rest is for the next time. With `anew` an
    index that is there counts for nothing. Raises `StorageError`, and `RemoteError` for a
    malformed file of the ledger; what was there stays.
    """
    path = folder / INDEX
    temporary = folder / f"{INDEX}{TEMPORARY}"
    try:
        log = InPlace(folder)
        first = 0 if anew else _begun(folder, log)
        end = log.size if most is None else min(log.size, first + most)
        if 0 < first == end:
            return end
        if first:
            file, size = opened(path)
            with file:
                copy(file, temporary, size)
        else:
            os.close(afresh(temporary))
        with closing(sqlite3.connect(temporary, isolation_level=None)) as base:
            _fill(base, log, first, end)
        sync_file(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    except sqlite3.Error as error:
        raise StorageError(f"{path}: cannot be written: {error}", hint="check the disk") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return end


def drop(folder: Path) -> None:
    """Removes the index, because what it was made from is going away. Raises `StorageError`."""
    try:
        (folder / INDEX).unlink(missing_ok=True)
        (folder / f"{INDEX}{TEMPORARY}").unlink(missing_ok=True)
        sync_folder(folder)
    except OSError as error:
        raise storage_error(folder / INDEX, error) from error


def _begun(folder: Path, log: InPlace) -> int:
    """How many entries a usable index covers already."""
    with suppress(IndexRefused):
        index = open_index(folder)
        if index is not None:
            with closing(index):
                return index.size if follows(index, log) else 0
    return 0


def _fill(base: sqlite3.Connection, log: InPlace, first: int, end: int) -> None:
    # Nobody reads it before it is whole, and a crash leaves a file that nobody opens.
    base.execute("PRAGMA journal_mode=OFF")
    base.execute("PRAGMA synchronous=OFF")
    base.execute("BEGIN")
    if not first:
        for sql in sorted(TABLES, reverse=True):
            base.execute(sql)
        base.execute(f"PRAGMA user_version={VERSION}")
    for start in range(first, end, AT_ONCE):
        rows = list(_rows(log, start, min(start + AT_ONCE, end)))
        base.executemany("INSERT INTO entry VALUES (?, ?, ?)", (row[:3] for row in rows))
        # In the order of the table, so that a page is written once.
        found = sorted((what, row[0]) for row in rows for what in row[3])
        base.executemany("INSERT INTO mention VALUES (?, ?)", found)
    base.execute("DELETE FROM log")
    base.execute("INSERT INTO log VALUES (?, ?)", (end, log.root(end)))
    base.execute("COMMIT")


def _rows(log: InPlace, first: int, end: int) -> Iterator[Row]:
    """The rows of the entries that can be read; what cannot is left out, as a pruned body is."""
    for index in range(first, end):
        said = read(log.entry(index))
        if said is not None:
            kind, time_ms, whole = said
            yield index, kind, time_ms, {what[:KEPT_BYTES] for what in whole}
