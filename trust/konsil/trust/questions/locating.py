"""Where the entries stand that a question is about: by the index, and then held against the files.

The index says where, the tree says whether it is true, and a search of the bytes says whether it
is all: the digest asked for, and the mark of a change of keys, must stand nowhere but in the
entries that the index named, or that were written after it was made. What does not fit in any way
sets the index aside, and the question reads the ledger whole. So it costs or saves time only.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import entries, merkle
from konsil.protocol.entries import Entry
from konsil.protocol.errors import ManifestRefused, RemoteError, StorageError
from konsil.protocol.keyring import CHANGE_WORD
from konsil.trust.index import MOST_FOUND, Index, IndexRefused, follows, open_index, read
from konsil.trust.inplace import InPlace
from konsil.trust.layout import INDEX

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from konsil.protocol.limits import Limits

LEAST_DIGITS = 8
"""A shorter beginning of a digest stands in too many places by chance."""
MOST_YOUNG = 1 << 14
"""More entries than this behind the index are read with the rest of the ledger."""
KEY_MARK = b"\xa1t\xaa" + CHANGE_WORD
"""How the type of `key.rotate` and `key.revoke` is written in an entry."""


class Located(msgspec.Struct, frozen=True):
    """The entries that a question is about, and every change of keys, in order."""

    log: InPlace
    entries: tuple[Entry, ...]


def locate(
    folder: Path, word: str, limits: Limits, notice: Callable[[str], None]
) -> Located | None:
    """The entries of the ledger in `folder` that mention the digest beginning with `word`.

    None when the ledger must be read whole: there is no index, it does not agree with the files
    (`notice` is told), or the files themselves are not in order.
    """
    if len(word) < LEAST_DIGITS:
        return None
    try:
        index = open_index(folder)
        if index is None:
            return None
        with closing(index):
            return _locate(index, InPlace(folder), bytes.fromhex(word[: len(word) & ~1]), limits)
    except IndexRefused as error:
        notice(f"the index is set aside, and the ledger read whole: {error.message}"
               " (make it anew: konsil audit recover HOME)")  # fmt: skip
    except (RemoteError, StorageError, FileNotFoundError):
        pass  # not the fault of the index: the whole reading says what is wrong, if anything is
    return None


def _locate(index: Index, log: InPlace, needle: bytes, limits: Limits) -> Located | None:
    if not follows(index, log):
        raise IndexRefused(f"{log.folder / INDEX}: is not of this log")
    if log.size - index.size > MOST_YOUNG:
        return None
    named = (index.mentions(needle), index.of_group("key"))
    if any(len(places) > MOST_FOUND for places in named):
        return None
    held: dict[int, bytes] = {}
    for mark, places in zip((needle, KEY_MARK), named, strict=True):
        young = (at for at in range(index.size, log.size) if mark in log.entry(at))
        mine = {at: log.entry(at) for at in (*places, *young)}
        held |= {at: _true(log, at, data, mark) for at, data in mine.items() if data}
        _nowhere_else(log, mark, mine)
    found = []
    for at in sorted(held):
        with suppress(RemoteError):
            entry = entries.decode(held[at], limits=limits)
            if entry.n != at:
                return None
            found.append(entry)
    return Located(log, tuple(found))


def _true(log: InPlace, at: int, data: bytes, mark: bytes) -> bytes:
    """The bytes of an entry that holds the mark, and whose hash is in the tree."""
    if mark not in data:
        raise IndexRefused(f"{log.folder / INDEX}: entry {at} does not hold what it says")
    if merkle.leaf_hash(data) != log.leaf(at):
        raise ManifestRefused(f"{log.folder}: entry {at} does not match its hash")
    return data


def _nowhere_else(log: InPlace, mark: bytes, held: dict[int, bytes]) -> None:
    """Raises `IndexRefused` when an entry that is not among these should be in the index."""
    for places, data in log.pieces():
        if data.count(mark) <= sum(held[at].count(mark) for at in held if at in places):
            continue
        for at in places:
            if at not in held and mark in log.entry(at) and _is_about(log.entry(at), mark):
                raise IndexRefused(f"{log.folder / INDEX}: leaves out entry {at}")


def _is_about(data: bytes, mark: bytes) -> bool:
    """Whether the index of an entry with the mark in it leads there: it may stand there by chance,
    or in another place than the body."""
    said = read(data)
    if said is None:
        return False
    kind, _, mentioned = said
    return kind.startswith("key.") or any(what.startswith(mark) for what in mentioned)
