"""The index: which entries of a ledger mention a digest or a node; for looking up, not for truth.

`ledger/index.sqlite` is made from the entries and says where things stand: of every entry its
position, type and time, and the first eight bytes of every digest, key and node id in its body.
It is disposable: without it the same answers take longer. Invariants: it is opened read-only,
never followed through a link, and believed only in form; nobody draws a verdict from it. Whoever
uses it reads the entries that it names from the files, and looks whether it named all of them
(`questions.locating`). Only a node that holds the ledger writes it (`konsil.node.store.indexing`).
"""

from __future__ import annotations

import os
import re
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from konsil.protocol.errors import ManifestRefused, RemoteError, StorageError
from konsil.trust.layout import INDEX
from konsil.trust.sources import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from konsil.trust.inplace import InPlace

VERSION = 1
KEPT_BYTES = 8
"""So much of a digest is kept: the entries that it leads to are read anyway."""
MAX_BYTES = 1 << 32
MOST_FOUND = 4_096
"""More entries than this under one digest are not looked up but read."""

TABLES = (
    "CREATE INDEX kind ON entry (t)",
    "CREATE TABLE entry (n INTEGER PRIMARY KEY, t TEXT NOT NULL, ts INTEGER NOT NULL)",
    "CREATE TABLE log (size INTEGER NOT NULL, root BLOB NOT NULL)",
    "CREATE TABLE mention (what BLOB NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (what, n))"
    " WITHOUT ROWID",
)
_STEPS, _PATIENCE = 1_000, 4_000
"""A genuine look-up takes a few hundred steps of SQLite's machine; after some millions it ends."""
_NODE = re.compile(r"[a-z2-7]{32}")
_DIGEST_BYTES = 32


class IndexRefused(ManifestRefused):
    """The index is not what it should be, or does not agree with the files."""


class Index:
    """An index that is open for reading; its words are not checked against anything."""

    def __init__(self, path: Path) -> None:
        """Raises `FileNotFoundError`, and `IndexRefused` for what is no index of this version."""
        try:
            file, _ = open_regular(path, MAX_BYTES)
            file.close()
            self._base = sqlite3.connect(
                f"file:{quote(os.fsencode(path.absolute()))}?mode=ro&immutable=1", uri=True
            )
        except (RemoteError, StorageError, sqlite3.Error) as error:
            raise IndexRefused(f"{path}: cannot be opened: {error}") from error
        self._path = path
        self._left = _PATIENCE
        try:
            self._base.set_progress_handler(self._spent, _STEPS)
            self.size, self.root = self._begin()
        except IndexRefused:
            self._base.close()
            raise

    def mentions(self, start: bytes) -> list[int]:
        """Where something is mentioned that begins with these bytes; at most `MOST_FOUND` + 1."""
        low = start[:KEPT_BYTES]
        high = low.ljust(KEPT_BYTES, b"\xff")
        return self._places("SELECT DISTINCT n FROM mention WHERE what BETWEEN ? AND ?", low, high)

    def of_group(self, group: str) -> list[int]:
        """Where the entries of a group of types (`key`) stand; at most `MOST_FOUND` + 1."""
        return self._places("SELECT n FROM entry WHERE t BETWEEN ? AND ?", f"{group}.", f"{group}/")

    def close(self) -> None:
        """Closes the file."""
        self._base.close()

    def _places(self, query: str, *bounds: object) -> list[int]:
        rows = self._ask(f"{query} ORDER BY n LIMIT {MOST_FOUND + 1}", *bounds)
        found = [n for (n,) in rows if isinstance(n, int) and 0 <= n < self.size]
        if len(found) < len(rows):
            raise IndexRefused(f"{self._path}: names an entry that is not there")
        return found

    def _begin(self) -> tuple[int, bytes]:
        """The state that it was made from, once its form is known to be ours."""
        if self._ask("PRAGMA user_version") != [(VERSION,)]:
            raise IndexRefused(f"{self._path}: is of another version")
        # Compared whole: no view, trigger or expression of somebody else's is ever run.
        rows = self._ask("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY sql LIMIT 9")
        if rows != [(sql,) for sql in TABLES]:
            raise IndexRefused(f"{self._path}: holds other tables")
        rows = self._ask("SELECT size, root FROM log LIMIT 2")
        if len(rows) == 1:
            size, root = rows[0]
            if type(size) is int and size >= 0 and type(root) is bytes:
                return size, root
        raise IndexRefused(f"{self._path}: does not say what it was made from")

    def _ask(self, query: str, *bounds: object) -> list[tuple[object, ...]]:
        try:
            return self._base.execute(query, bounds).fetchall()
        except (sqlite3.Error, OverflowError, MemoryError) as error:
            raise IndexRefused(f"{self._path}: {error}") from error

    def _spent(self) -> int:
        self._left -= 1
        return int(self._left <= 0)


def open_index(folder: Path) -> Index | None:
    """The index of the ledger in `folder`; None when there is none. Raises `IndexRefused`."""
    try:
        return Index(folder / INDEX)
    except FileNotFoundError:
        return None


def follows(index: Index, log: InPlace) -> bool:
    """Whether the index says to be made from the beginning of this log."""
    return index.size <= log.size and log.root(index.size) == index.root


def read(data: bytes) -> tuple[str, int, set[bytes]] | None:
    """What the index notes of an entry: its type, its time, and what its body mentions.

    None for what is no entry: nothing is checked here that an audit checks.
    """
    try:
        plain = msgspec.msgpack.decode(data)
        kind, time_ms, body = plain["t"], plain["ts"], plain["b"]
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if isinstance(kind, str) and isinstance(time_ms, int) and 0 <= time_ms < 1 << 63:
        return kind, time_ms, set(_mentioned(body))
    return None


def _mentioned(value: object) -> Iterator[bytes]:
    """Every digest, key and node id in a decoded body, whatever its type."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, bytes):
            if len(item) == _DIGEST_BYTES:
                yield item
        elif isinstance(item, str):
            if _NODE.fullmatch(item):
                yield item.encode()
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
