"""The tree over leaves that lie in a file: its upper part in memory, the rest read again.

Kept are the roots of full groups of 256 leaves and everything above them, and the leaves of the
last group; what lies below is computed from the one group that it belongs to. So a tree of a
million leaves takes a quarter of a megabyte, and any root or proof reads a few groups. It never
changes a file, and believes what it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import merkle
from konsil.protocol.merkle import HASH_BYTES
from konsil.protocol.tiles import HEIGHT, WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable


class Canopy:
    """A growing tree; `read` gives the 256 leaf hashes of a full group by its number."""

    def __init__(self, read: Callable[[int], list[bytes]]) -> None:
        self._read = read
        self._rows: list[bytearray] = [bytearray()]
        """Row L: the hashes of level HEIGHT + L, end to end."""
        self._young: list[bytes] = []
        self._last: tuple[int, list[bytes]] = (-1, [])

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._rows[0]) // HASH_BYTES * WIDTH + len(self._young)

    def append(self, leaf: bytes) -> None:
        """Adds the next leaf hash."""
        self._young.append(leaf)
        if len(self._young) == WIDTH:
            found = merkle.root_of(self._young)
            self._young = []
            for row in self._rows:
                row += found
                if len(row) // HASH_BYTES % 2:
                    return
                left, right = bytes(row[-2 * HASH_BYTES : -HASH_BYTES]), bytes(row[-HASH_BYTES:])
                found = merkle.node_hash(left, right)
            self._rows.append(bytearray(found))

    def cut(self, size: int) -> None:
        """Forgets the leaves from `size` on; those of its group are read before that."""
        groups, rest = divmod(size, WIDTH)
        young = self._group(groups)[:rest] if rest else []
        for level, row in enumerate(self._rows):
            del row[(groups >> level) * HASH_BYTES :]
        self._rows = [row for level, row in enumerate(self._rows) if row or not level]
        self._young, self._last = young, (-1, [])

    def node(self, level: int, index: int) -> bytes:
        """The root of the complete subtree (level, index)."""
        if level >= HEIGHT:
            at = index * HASH_BYTES
            return bytes(self._rows[level - HEIGHT][at : at + HASH_BYTES])
        first = index << level
        leaves = self._group(first // WIDTH)
        return merkle.root_of(leaves[first % WIDTH : first % WIDTH + (1 << level)])

    def root(self, size: int) -> bytes:
        """The root over the first `size` leaves."""
        return merkle.range_root(self, 0, size)

    def _group(self, group: int) -> list[bytes]:
        if group == len(self._rows[0]) // HASH_BYTES:
            return self._young
        if self._last[0] != group:
            self._last = (group, self._read(group))
        return self._last[1]
