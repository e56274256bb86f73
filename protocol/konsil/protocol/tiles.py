"""The bytes of a ledger's files: journal frames, entry bundles, hash tiles (C2SP tlog-tiles).

    frame    u16 big-endian length ‖ entry ‖ 32-byte leaf hash      in `tail.<start>`
    bundle   256 × (u16 big-endian length ‖ entry)                  in `tile/entries/<N>`
    tile     256 × 32-byte hash                                     in `tile/<L>/<N>`

<N> is written in groups of three digits, all but the last behind an `x` (x001/x234/067).
Only full bundles and tiles are stored. An entry of length 0 is a pruned body: its leaf hash
stands in its frame, or in the tile of level 0. Everything here is a pure function on bytes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import EncodingRefused
from konsil.protocol.merkle import HASH_BYTES, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 256
"""Entries in a full bundle and hashes in a full tile."""
HEIGHT = 8
"""Levels of the tree that one tile spans: 2^HEIGHT = WIDTH."""
PREFIX_BYTES = 2
TILE_BYTES = WIDTH * HASH_BYTES
ZERO_FILL_BYTES = 8
"""So many zero bytes at the end of a file are an interrupted write, not a hash."""
MAX_LEVEL = 7

_INDEX = re.compile(r"(?:x[0-9]{3}/)*[0-9]{3}")


class Framed(msgspec.Struct, frozen=True):
    """One entry in the tail: where its frame begins (bytes), the entry (empty when its body was
    pruned), and its leaf hash."""

    offset: int
    entry: bytes
    leaf: bytes


class Tail(msgspec.Struct, frozen=True):
    """The frames of a tail, the bytes they fill, and whether a torn frame follows them."""

    frames: tuple[Framed, ...]
    end: int
    torn: bool


def index_path(index: int) -> str:
    """The path elements of tile number `index`.

    >>> index_path(1234067)
    'x001/x234/067'
    """
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def parse_index(path: str) -> int | None:
    """The number that `index_path` writes as `path`; None for any other spelling."""
    if not _INDEX.fullmatch(path):
        return None
    index = int(path.replace("x", "").replace("/", ""))
    return index if index_path(index) == path else None


def bundle_path(index: int) -> str:
    """The path of entry bundle `index`, below the ledger's folder."""
    return f"tile/entries/{index_path(index)}"


def tile_path(level: int, index: int) -> str:
    """The path of hash tile `index` of tile level `level`, below the ledger's folder."""
    return f"tile/{level}/{index_path(index)}"


def frame(entry: bytes, leaf: bytes) -> bytes:
    """The journal frame of an entry."""
    return len(entry).to_bytes(PREFIX_BYTES, "big") + entry + leaf


def frames(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The journal frames of (entry, leaf hash) pairs, one behind the other."""
    parts: list[bytes] = []
    for entry, leaf in items:
        parts += (len(entry).to_bytes(PREFIX_BYTES, "big"), entry, leaf)
    return b"".join(parts)


def bundle(entries: Sequence[bytes]) -> bytes:
    """The bytes of a bundle."""
    return b"".join(len(item).to_bytes(PREFIX_BYTES, "big") + item for item in entries)


def read_bundle(data: bytes) -> list[tuple[int, bytes]]:
    """(offset of the entry, entry) for the 256 entries of a full bundle.

    Raises `EncodingRefused` naming the offset.
    """
    found: list[tuple[int, bytes]] = []
    offset, size = 0, len(data)
    while offset < size and len(found) < WIDTH:
        start = offset + PREFIX_BYTES
        if start > size:
            raise EncodingRefused(f"bundle: cut short at offset {offset}")
        end = start + (data[offset] << 8) + data[offset + 1]
        if end > size:
            raise EncodingRefused(f"bundle: cut short at offset {offset}")
        found.append((start, data[start:end]))
        offset = end
    if offset != size or len(found) != WIDTH:
        raise EncodingRefused(f"bundle: {len(found)} entries up to offset {offset}")
    return found


def read_tile(data: bytes) -> list[bytes]:
    """The 256 hashes of a full tile. Raises `EncodingRefused` for another size."""
    if len(data) != TILE_BYTES:
        raise EncodingRefused(f"tile: {len(data)} bytes instead of {TILE_BYTES}")
    return [data[at : at + HASH_BYTES] for at in range(0, TILE_BYTES, HASH_BYTES)]


def read_tail(data: bytes) -> Tail:
    """The frames of a tail, every leaf hash checked but those of pruned bodies.

    A last frame that is short, or whose end was never written and reads as zeros up to the
    end of the file, is torn: a write that the machine did not finish and nobody was told
    of. Raises `EncodingRefused` naming the offset of any other frame that is wrong: above
    all when a whole frame ends where the file ends, for then nothing was cut off.
    """
    frames: list[Framed] = []
    offset = sure = 0
    written = len(data.rstrip(b"\0"))
    while offset < len(data):
        start = offset + PREFIX_BYTES
        end = start + int.from_bytes(data[offset:start], "big")
        if start > len(data) or end + HASH_BYTES > len(data):
            # A length that became 0 looks like a pruned body, so look from there on.
            if _ends_whole(data, sure):
                raise EncodingRefused(f"tail: wrong length in the frame at offset {sure}")
            return Tail(frames=tuple(frames), end=offset, torn=True)
        entry, leaf = data[start:end], data[end : end + HASH_BYTES]
        if not entry or leaf != leaf_hash(entry):
            if _zero_filled(data, offset, end + HASH_BYTES, written):
                return Tail(frames=tuple(frames), end=offset, torn=True)
            if entry:
                raise EncodingRefused(f"tail: the frame at offset {offset} does not match its hash")
        frames.append(Framed(offset, entry, leaf))
        offset = end + HASH_BYTES
        sure = offset if entry else sure
    return Tail(frames=tuple(frames), end=offset, torn=False)


def _zero_filled(data: bytes, begin: int, end: int, written: int) -> bool:
    """Whether the frame [begin, end) breaks off into zeros that reach the end of the file.

    They begin at `written`. Fewer than `ZERO_FILL_BYTES` count only behind the beginning of the
    right hash.
    """
    if written >= end or len(data) - max(written, begin) >= ZERO_FILL_BYTES:
        return written < end
    place = end - HASH_BYTES
    leaf = leaf_hash(data[begin + PREFIX_BYTES : place])
    return leaf.startswith(data[place:written])


def _ends_whole(data: bytes, begin: int) -> bool:
    """Whether a frame that begins at or after `begin` ends exactly at the end of the file.

    The frame at `begin` itself counts whatever its length says. Nothing longer than an entry can
    be is looked at: between here and there may be a gibibyte of withheld bodies.
    """
    last = len(data) - HASH_BYTES
    for at in range(max(begin, last - PREFIX_BYTES - 0xFFFF), last - PREFIX_BYTES + 1):
        start = at + PREFIX_BYTES
        fits = int.from_bytes(data[at:start], "big") == last - start
        if (fits or at == begin) and leaf_hash(data[start:last]) == data[last:]:
            return True
    return False
