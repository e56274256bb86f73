"""A damaged tail, read as far as it goes: which frames are whole, and what is wrong with others.

A frame says its length and its leaf hash, and an entry its own position. So one damaged frame
does not hide those behind it: the next frame that matches its hash is looked for, and what
stands before it is the damage. Nothing is believed because it was found here: whoever reads
holds the leaf hashes against the signed root (`settled`).

The bytes are hostile. What is hashed on the search is bounded, and so are the faults that are
told apart; behind the last of them nothing is read.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import entries, tiles
from konsil.protocol.errors import RemoteError
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.merkle import HASH_BYTES, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from konsil.protocol.tiles import Framed

MOST_FAULTS = DEFAULT_LIMITS.damaged_frames
SEARCHED_BYTES = DEFAULT_LIMITS.searched_bytes
CHOSEN_FAULTS = 6
"""Frames of which either the entry or the hash may be the damaged one: 2⁶ ways to try."""

_SMALLEST = tiles.PREFIX_BYTES + HASH_BYTES
_LARGEST = _SMALLEST + 0xFFFF
_BEGINNING = b"\x87\xa1b"
"""How every entry begins: a map of seven keys, the first of them `b`."""


class Piece(msgspec.Struct, frozen=True):
    """One place of a damaged tail. A whole frame has no `fault`."""

    offset: int
    entry: bytes | None
    """None when its bytes are not those that were logged, as far as the frame tells."""
    leaf: bytes | None
    """The leaf hash as it is stored; None when nobody can tell where it stands."""
    fault: str = ""
    found: bytes = b""
    """What stands in the place of an entry that does not match its hash."""


class Salvage(msgspec.Struct, frozen=True):
    """The places of a tail in order, and the offset of a torn frame behind them."""

    pieces: tuple[Piece, ...]
    torn: int | None = None

    @property
    def first_fault(self) -> int:
        """The first place at which something is wrong."""
        return next(at for at, piece in enumerate(self.pieces) if piece.fault)


def salvage(data: bytes, first: int) -> Salvage:
    """What can be read of a tail that `tiles.read_tail` refuses; `first` is its first index."""
    pieces: list[Piece] = []
    offset, budget = 0, SEARCHED_BYTES
    while offset < len(data):
        whole, offset = _whole(data, offset)
        pieces += (Piece(item.offset, item.entry, item.leaf) for item in whole)
        if offset == len(data):
            break
        behind, budget = _next(data, offset, budget)
        if behind is None or sum(bool(piece.fault) for piece in pieces) >= MOST_FAULTS:
            rest, torn = _last(data, offset)
            return Salvage((*pieces, *rest), torn)
        count = _position(data, behind) - first - len(pieces)
        pieces += _between(data[offset:behind], offset, count)
        offset = behind
    return Salvage(tuple(pieces))


def settled(
    pieces: Sequence[Piece], root_of: Callable[[Sequence[bytes]], bytes | None], root: bytes
) -> tuple[Piece, ...] | None:
    """The pieces with the leaf hashes that lead to `root`; None when none of them do.

    Where a frame does not match its hash, either was changed: `root_of` gives the root over
    some leaf hashes, and tells the one from the other.
    """
    if any(piece.leaf is None for piece in pieces):
        return None
    doubtful = [at for at, piece in enumerate(pieces) if piece.found][:CHOSEN_FAULTS]
    for kept in product((True, False), repeat=len(doubtful)):
        tried = list(pieces)
        for at, is_hash_good in zip(doubtful, kept, strict=True):
            tried[at] = _decided(pieces[at], is_hash_good=is_hash_good)
        if root_of([piece.leaf for piece in tried if piece.leaf is not None]) == root:
            return tuple(tried)
    return None


def _decided(piece: Piece, *, is_hash_good: bool) -> Piece:
    if is_hash_good:
        fault = "the bytes of the entry were changed: its hash is the one that was signed for"
        return msgspec.structs.replace(piece, fault=fault)
    return Piece(
        piece.offset,
        piece.found,
        leaf_hash(piece.found),
        "the stored hash was changed: the entry is the one that was signed for",
    )


def _whole(data: bytes, begin: int) -> tuple[list[Framed], int]:
    """The frames from `begin` on that match their hashes, and where they surely end.

    A frame of length 0 has no hash to match; it counts when a whole frame stands behind it.
    """
    found: list[Framed] = []
    offset = sure = begin
    count = 0
    while offset + _SMALLEST <= len(data):
        start = offset + tiles.PREFIX_BYTES
        end = start + int.from_bytes(data[offset:start], "big")
        entry, leaf = data[start:end], data[end : end + HASH_BYTES]
        if len(leaf) < HASH_BYTES or (entry and leaf != leaf_hash(entry)):
            break
        found.append(tiles.Framed(offset, entry, leaf))
        offset = end + HASH_BYTES
        if entry or (offset == len(data) and any(leaf)):
            sure, count = offset, len(found)
    return found[:count], sure


def _next(data: bytes, begin: int, budget: int) -> tuple[int | None, int]:
    """Where the next frame that matches its hash begins, and what is left of the budget."""
    at = data.find(_BEGINNING, begin + _SMALLEST + tiles.PREFIX_BYTES)
    while at >= 0 and budget > 0:
        length = int.from_bytes(data[at - tiles.PREFIX_BYTES : at], "big")
        end = at + length
        if end + HASH_BYTES <= len(data):
            budget -= length
            if leaf_hash(data[at:end]) == data[end : end + HASH_BYTES]:
                return at - tiles.PREFIX_BYTES, budget
        at = data.find(_BEGINNING, at + 1)
    return None, budget


def _position(data: bytes, begin: int) -> int:
    """Where the entry in a whole frame says that it stands; 0 when it does not say."""
    start = begin + tiles.PREFIX_BYTES
    end = start + int.from_bytes(data[begin:start], "big")
    with suppress(RemoteError):
        return entries.peek(data[start:end]).n
    return 0


def _between(gap: bytes, base: int, count: int) -> list[Piece]:
    """The frames in `gap`, of which there are `count`, unless so many have no room in it."""
    found: list[Piece] = []
    at = 0
    left = count if 0 < count * _SMALLEST <= len(gap) else 1
    while left > 1:
        end = at + _SMALLEST + int.from_bytes(gap[at : at + tiles.PREFIX_BYTES], "big")
        if end + (left - 1) * _SMALLEST > len(gap):
            fault = f"{left} frames from here on cannot be told apart"
            return [*found, *[Piece(base + at, None, None, fault)] * left]
        found.append(_piece(gap[at:end], base + at))
        at, left = end, left - 1
    return [*found, _piece(gap[at:], base + at)]


def _last(data: bytes, begin: int) -> tuple[list[Piece], int | None]:
    """What stands behind the last whole frame, and the offset of a torn frame in it."""
    found: list[Piece] = []
    written = len(data.rstrip(b"\0"))
    filled = len(data) - max(written, begin) >= tiles.ZERO_FILL_BYTES
    at = begin
    while at < len(data) and len(found) < MOST_FAULTS:
        end = at + _SMALLEST + int.from_bytes(data[at : at + tiles.PREFIX_BYTES], "big")
        if _ends_with_it(data, at):
            return [*found, _piece(data[at:], at)], None
        if end > len(data) or (filled and end > written):
            # Bytes of an entry read as lengths would end anywhere: then it is one frame.
            guessed = found[1:] and not filled
            return ([_piece(data[begin:], begin)], None) if guessed else (found, at)
        found.append(_piece(data[at:end], at))
        at = end
    return found, None


def _ends_with_it(data: bytes, at: int) -> bool:
    """Whether one frame, whatever its length says, reaches from `at` to the end of the file.

    Hashed is only what can be an entry: a file may be a gibibyte, and its frames are many.
    """
    if not _SMALLEST <= len(data) - at <= _LARGEST:
        return False
    return leaf_hash(data[at + tiles.PREFIX_BYTES : -HASH_BYTES]) == data[-HASH_BYTES:]


def _piece(frame: bytes, offset: int) -> Piece:
    """One frame that begins and ends where its neighbours say."""
    stated = int.from_bytes(frame[: tiles.PREFIX_BYTES], "big")
    entry, leaf = frame[tiles.PREFIX_BYTES : -HASH_BYTES], frame[-HASH_BYTES:]
    fault = "" if stated == len(entry) else "wrong length in the frame"
    if entry and leaf_hash(entry) != leaf:
        fault = f"{fault}, which does not match its hash" if fault else (
            "the frame does not match its hash"
        )  # fmt: skip
        return Piece(offset, None, leaf, fault, entry)
    return Piece(offset, entry, leaf, fault)
