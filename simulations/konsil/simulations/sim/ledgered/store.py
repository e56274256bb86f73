"""Store: the entries of one simulated log, of which only the newest stay in memory.

A `konsil.trust.entry_store.Store` that hands its files on as they become full, in the formats
of the daemon's own: bundles and tiles of 256, and at the end the tail and the checkpoint.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from konsil.node.store.filestore import CHECKPOINT
from konsil.node.store.tailfile import PREFIX
from konsil.protocol import merkle, tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class LogStore:
    """`write(name, data)` takes a file of the ledger's folder."""

    def __init__(self, write: Callable[[str, bytes], None]) -> None:
        self._write = write
        self._start = 0
        """The first entry that is not in a bundle yet."""
        self._bodies: list[bytes] = []
        self._levels: list[list[bytes]] = [[] for _ in range(tiles.HEIGHT + 1)]
        """Hashes of complete subtrees behind `_start`, by their level."""
        self._groups = merkle.Tree()
        """The tree over all full groups of 256."""
        self._checkpoint: bytes | None = None

    @property
    def size(self) -> int:
        """The number of entries."""
        return self._start + len(self._bodies)

    @property
    def checkpoint(self) -> bytes | None:
        """The last saved checkpoint note."""
        return self._checkpoint

    def append(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Adds (entry, leaf hash) pairs."""
        self._bodies += [data for data, _ in items]
        self._levels[0] += [leaf for _, leaf in items]
        for below, above in itertools.pairwise(self._levels):
            for at in range(2 * len(above), len(below) - 1, 2):
                above.append(merkle.node_hash(below[at], below[at + 1]))
        for group in range(self._groups.size, self.size // tiles.WIDTH):
            self._groups.append(self._levels[tiles.HEIGHT][group - self._start // tiles.WIDTH])

    def entry(self, index: int) -> bytes:
        """The bytes of entry `index`, which no bundle holds yet."""
        return self._bodies[index - self._start]

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree: behind all bundles, or of whole groups."""
        if level >= tiles.HEIGHT:
            return self._groups.node(level - tiles.HEIGHT, index)
        return self._levels[level][index - (self._start >> level)]

    def save_checkpoint(self, data: bytes) -> None:
        """Replaces the checkpoint note."""
        self._checkpoint = data

    def roll(self) -> None:
        """Hands on every full group of entries, which cannot be asked for any more."""
        while len(self._bodies) >= tiles.WIDTH:
            group = self._start // tiles.WIDTH
            self._write(tiles.bundle_path(group), tiles.bundle(self._bodies[: tiles.WIDTH]))
            self._write(tiles.tile_path(0, group), b"".join(self._levels[0][: tiles.WIDTH]))
            self._higher_tiles(group + 1)
            self._start += tiles.WIDTH
            del self._bodies[: tiles.WIDTH]
            for level, hashes in enumerate(self._levels):
                del hashes[: tiles.WIDTH >> level]

    def _higher_tiles(self, groups: int) -> None:
        """Hands on the tiles that the last of so many groups made full."""
        level = 1
        while groups % tiles.WIDTH == 0:
            groups //= tiles.WIDTH
            places = range((groups - 1) * tiles.WIDTH, groups * tiles.WIDTH)
            hashes = [self._groups.node((level - 1) * tiles.HEIGHT, at) for at in places]
            self._write(tiles.tile_path(level, groups - 1), b"".join(hashes))
            level += 1

    def close(self) -> None:
        """Hands on all the rest."""
        self.roll()
        frames = tiles.frames(zip(self._bodies, self._levels[0], strict=True))
        self._write(f"{PREFIX}{self._start}", frames)
        if self._checkpoint is not None:
            self._write(CHECKPOINT, self._checkpoint)
