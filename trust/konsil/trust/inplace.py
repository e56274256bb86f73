"""One log's entries and hashes read where they lie: a few files for a question, not all of them.

The right edge comes from the newest tail, everything before it from full bundles and tiles, each
opened when it is asked for. Nothing is checked here but the form of a file: whoever asks holds
what it gets against a signed root. Read-only; a running node may write meanwhile, because bundles
and tiles never move, and the tail is read once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import genesis, merkle, tiles
from konsil.protocol.errors import ManifestRefused
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES, list_folder, tail_start
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from konsil.protocol.genesis import Author
    from konsil.protocol.limits import Limits


class InPlace:
    """The log in one folder, as long as it was when the object was made."""

    def __init__(self, folder: Path) -> None:
        """Raises `FileNotFoundError`, `StorageError`, or `RemoteError` for a malformed tail."""
        starts = [tail_start(name) for name in list_folder(folder)]
        newest = max((start for start in starts if start is not None), default=None)
        if newest is None:
            raise FileNotFoundError(folder / "tail.0")
        self.folder = folder
        self._start = newest
        self._tail = read_file(folder / f"tail.{newest}", MAX_TAIL_BYTES)
        tail = tiles.read_tail(self._tail)
        self._end = tail.end
        self._young = [item.entry for item in tail.frames]
        self._leaves = [item.leaf for item in tail.frames]
        self._bundle: tuple[int, list[bytes]] = (-1, [])
        self._rows: dict[tuple[int, int], list[bytes]] = {}

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._start + len(self._young)

    def author(self, limits: Limits) -> Author:
        """Who says in entry 0 that the log is theirs. Raises a `RemoteError`."""
        return genesis.read(self.entry(0), limits=limits)

    def entry(self, index: int) -> bytes:
        """The bytes of entry `index`, which exists; empty when its body was pruned."""
        if index >= self._start:
            return self._young[index - self._start]
        group, place = divmod(index, tiles.WIDTH)
        if self._bundle[0] != group:
            found = [entry for _, entry in tiles.read_bundle(self.raw(group))]
            self._bundle = (group, found)
        return self._bundle[1][place]

    def leaf(self, index: int) -> bytes:
        """The leaf hash of entry `index`, which exists."""
        return self.leaves(index // tiles.WIDTH)[index % tiles.WIDTH]

    def leaves(self, group: int) -> list[bytes]:
        """The leaf hashes of one group of 256, or of as many as there are."""
        return self._row(0, group)

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        row, height = divmod(level, tiles.HEIGHT)
        begin = index << height
        hashes = self._row(row, begin // tiles.WIDTH)[begin % tiles.WIDTH :][: 1 << height]
        if len(hashes) != 1 << height:
            raise ManifestRefused(f"{self.folder}: no subtree {level}, {index}")
        return merkle.root_of(hashes)

    def root(self, size: int) -> bytes:
        """The root over the first `size` entries, which exist."""
        return merkle.range_root(self, 0, size)

    def raw(self, group: int) -> bytes:
        """The bytes of a full bundle, as they are."""
        return read_file(self.folder / tiles.bundle_path(group), MAX_BUNDLE_BYTES)

    def pieces(self) -> Iterator[tuple[range, bytes]]:
        """Every file of entries, as it is, with the entries in it."""
        for group in range(self._start // tiles.WIDTH):
            yield range(group * tiles.WIDTH, (group + 1) * tiles.WIDTH), self.raw(group)
        yield range(self._start, self.size), self._tail[: self._end]

    def _row(self, row: int, number: int) -> list[bytes]:
        """The hashes of tile `number` of a tile level, as many as are complete."""
        if (row, number) in self._rows:
            return self._rows[row, number]
        span = tiles.WIDTH**row
        first = number * tiles.WIDTH
        if (first + tiles.WIDTH) * span <= self._start:
            path = self.folder / tiles.tile_path(row, number)
            found = tiles.read_tile(read_file(path, tiles.TILE_BYTES))
        elif row:
            end = min(first + tiles.WIDTH, self.size // span)
            found = [merkle.root_of(self._row(row - 1, at)) for at in range(first, end)]
        else:
            at = first - self._start
            found = self._leaves[at : at + tiles.WIDTH]
        self._rows[row, number] = found
        return found
