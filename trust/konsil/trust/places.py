"""The entries of one log as they lie in its files, in order: bundles, their hash tiles, the tail.

What a file says of itself is checked here: whether it can be read, whether a bundle and its tile
say the same, whether each frame of the tail matches its hash. What the entries say, and whether
they are those that were signed for, is for `konsil.trust.structure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import merkle, tiles
from konsil.protocol.errors import RemoteError
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES, Layout
from konsil.trust.report import Findings
from konsil.trust.salvage import Piece, Salvage, salvage
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Item(msgspec.Struct, frozen=True, gc=False):
    """One entry where it lies: its bytes (empty when pruned, None when lost), leaf hash, place.

    Bytes that are here have this leaf hash.
    """

    index: int
    entry: bytes | None
    leaf: bytes
    file: Path
    offset: int
    changed: bytes = b""
    """What stands in the place of an entry that was changed in a tail."""


class Run(msgspec.Struct, frozen=True, gc=False):
    """Neighbours in one file, as lists: what is true of all of them is looked at in one go."""

    first: int
    file: Path
    offsets: Sequence[int]
    entries: Sequence[bytes | None]
    leaves: list[bytes]
    changed: bytes = b""

    def items(self) -> Iterator[Item]:
        """One by one."""
        places = zip(self.entries, self.leaves, self.offsets, strict=True)
        for index, (entry, leaf, offset) in enumerate(places, self.first):
            yield Item(index, entry, leaf, self.file, offset, self.changed)


def runs(
    layout: Layout, findings: Findings, settle: Callable[[Salvage], Sequence[Piece]]
) -> Iterator[Run]:
    """Every entry in order, neighbours together, and what is wrong with their files.

    Of a damaged tail `settle` says what its frames are. What is wrong with a group is told before
    the group itself, so that the order of the findings is that of the places.
    """
    if not layout.tails:
        findings.add("layout.missing", layout.folder / "tail.0", "there is no tail")
    start = layout.tails[-1] if layout.tails else (max(layout.bundles, default=-1) + 1) * 256
    for group in range(start // tiles.WIDTH):
        yield _bundle(layout, group, findings)
    if layout.tails:
        for item in _tail(layout, start, findings, settle):
            yield Run(
                item.index, item.file, (item.offset,), (item.entry,), [item.leaf], item.changed
            )
    ahead = [number for number in layout.bundles if number * tiles.WIDTH >= start]
    if ahead and layout.tails:
        _check_ahead(layout, ahead, findings)


def _bundle(layout: Layout, group: int, findings: Findings) -> Run:
    """The 256 entries of one bundle; bare leaf hashes from its tile when the bundle is lost."""
    path = layout.path(tiles.bundle_path(group))
    tile = layout.path(tiles.tile_path(0, group))
    first = group * tiles.WIDTH
    hashes = tile_hashes(layout, 0, group, findings)
    try:
        if group not in layout.bundles:
            raise FileNotFoundError
        found = _read_bundle(layout, group)
    except (FileNotFoundError, RemoteError) as error:
        missing = isinstance(error, FileNotFoundError)
        message = "256 entries are missing" if missing else str(error)
        findings.add("bundle.missing" if missing else "bundle.corrupt", path, message, index=first)
        offsets = range(0, tiles.TILE_BYTES, merkle.HASH_BYTES)
        unknown = [bytes(merkle.HASH_BYTES)] * tiles.WIDTH
        return Run(first, tile, offsets, [None] * tiles.WIDTH, hashes or unknown)
    leaves = _leaves_of(found, hashes)
    if hashes is not None and hashes != leaves:
        place = next(at for at in range(tiles.WIDTH) if hashes[at] != leaves[at])
        message = f"does not match entry {first + place}"
        at = place * merkle.HASH_BYTES
        findings.add("tile.mismatch", tile, message, offset=at, index=first + place, evidence=path)
    return Run(first, path, [at for at, _ in found], [entry for _, entry in found], leaves)


def _tail(
    layout: Layout,
    start: int,
    findings: Findings,
    settle: Callable[[Salvage], Sequence[Piece]] = lambda read: read.pieces,
) -> Iterator[Item]:
    """The entries of a tail; of one that is damaged, `settle` says what the frames are."""
    path = layout.path(f"tail.{start}")
    try:
        data = read_file(path, MAX_TAIL_BYTES)
    except RemoteError as error:
        findings.add("tail.corrupt", path, error.message, index=start)
        return
    try:
        tail = tiles.read_tail(data)
        pieces: Sequence[Piece] = [Piece(one.offset, one.entry, one.leaf) for one in tail.frames]
        torn = tail.end if tail.torn else None
    except RemoteError as error:
        read = salvage(data, start)
        pieces, torn = settle(read), read.torn
        if not any(piece.fault for piece in pieces):
            findings.add("tail.corrupt", path, error.message, index=start + len(pieces))
    for index, piece in enumerate(pieces, start):
        if piece.fault:
            findings.add("tail.corrupt", path, piece.fault, offset=piece.offset, index=index)
        leaf = bytes(merkle.HASH_BYTES) if piece.leaf is None else piece.leaf
        yield Item(index, piece.entry, leaf, path, piece.offset + tiles.PREFIX_BYTES, piece.found)
    if torn is not None:
        message = "the last frame is torn; the next start of the node cuts it off"
        findings.add("tail.torn", path, message, offset=torn, index=start + len(pieces))


class Again:
    """Entries where they lie, read once more: the tail once for all of them, and the last bundle
    stays at hand."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._tail: dict[int, Item] | None = None
        self._group = -1
        self._bundle: dict[int, Item] = {}

    def get(self, index: int) -> Item | None:
        """An entry; None when it cannot be told. Raises `FileNotFoundError`, as `walk` does."""
        tails = self._layout.tails
        if tails and index >= tails[-1]:
            if self._tail is None:
                self._tail = _by_index(_tail(self._layout, tails[-1], Findings("")))
            return self._tail.get(index)
        if index // tiles.WIDTH != self._group:
            self._group = index // tiles.WIDTH
            run = _bundle(self._layout, self._group, Findings(""))
            self._bundle = _by_index(run.items())
        return self._bundle.get(index)


def _by_index(items: Iterable[Item]) -> dict[int, Item]:
    return {item.index: item for item in items}


def _check_ahead(layout: Layout, ahead: Sequence[int], findings: Findings) -> None:
    """Bundles that a crash, or a running node, wrote before it shortened the tail."""
    try:
        frames = tail_of(layout, layout.tails[-1]).frames
    except RemoteError:
        return  # the tail itself is a finding
    for number in ahead:
        path = layout.path(tiles.bundle_path(number))
        at = number * tiles.WIDTH - layout.tails[-1]
        expected = [item.entry for item in frames[at : at + tiles.WIDTH]]
        try:
            held = [entry for _, entry in _read_bundle(layout, number)]
        except RemoteError as error:
            findings.add("bundle.corrupt", path, error.message, index=number * tiles.WIDTH)
            continue
        if held != expected:
            message = "does not match the entries in the tail"
            findings.add("bundle.corrupt", path, message, index=number * tiles.WIDTH)


def tile_hashes(layout: Layout, level: int, number: int, findings: Findings) -> list[bytes] | None:
    """The 256 hashes of a tile; None, with a finding, when it is missing or has another size."""
    path = layout.path(tiles.tile_path(level, number))
    if (level, number) not in layout.tiles:
        findings.add("tile.missing", path, "256 hashes are missing")
        return None
    try:
        return tiles.read_tile(read_file(path, tiles.TILE_BYTES))
    except RemoteError as error:
        findings.add("tile.mismatch", path, error.message)
        return None


def _read_bundle(layout: Layout, group: int) -> list[tuple[int, bytes]]:
    path = layout.path(tiles.bundle_path(group))
    return tiles.read_bundle(read_file(path, MAX_BUNDLE_BYTES))


def tail_of(layout: Layout, start: int) -> tiles.Tail:
    """The tail that begins with entry `start`. Raises a `RemoteError` when it is damaged."""
    return tiles.read_tail(read_file(layout.path(f"tail.{start}"), MAX_TAIL_BYTES))


def _leaves_of(found: list[tuple[int, bytes]], hashes: list[bytes] | None) -> list[bytes]:
    """The leaf hashes of a bundle; for a pruned body the tile's word is all there is."""
    leaves = merkle.leaf_hashes(entry for _, entry in found)
    if not all(entry for _, entry in found):
        for place, (_, entry) in enumerate(found):
            if not entry:
                leaves[place] = bytes(merkle.HASH_BYTES) if hashes is None else hashes[place]
    return leaves


def leaves_in_bundle(layout: Layout, group: int) -> list[bytes]:
    """The leaf hashes of a group by its entries. Raises `FileNotFoundError` or `RemoteError`."""
    return merkle.leaf_hashes(entry for _, entry in _read_bundle(layout, group))


def leaves_in_tile(layout: Layout, group: int) -> list[bytes]:
    """The leaf hashes of a group by its tile. Raises as `leaves_in_bundle` does."""
    return tiles.read_tile(read_file(layout.path(tiles.tile_path(0, group)), tiles.TILE_BYTES))


def leaves_in_tail(layout: Layout, group: int) -> list[bytes]:
    """The leaf hashes of a group by the newest tail. Raises as `leaves_in_bundle` does."""
    start = layout.tails[-1] if layout.tails else 0
    at = group * tiles.WIDTH - start
    frames = tail_of(layout, start).frames
    return [item.leaf for item in frames[at : at + tiles.WIDTH]]
