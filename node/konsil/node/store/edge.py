"""The right edge of a tiled Merkle tree: the hashes that are in no full tile on disk yet.

Row L holds the hashes of tile level L (each over 256^L leaves) from the first that may not
be on disk. The root of every 256 in a row belongs into the row above; it is computed when
that row is asked for, so that nobody who only adds waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.merkle import root_of
from konsil.protocol.tiles import WIDTH

if TYPE_CHECKING:
    from collections.abc import Iterable


class Row:
    """Consecutive hashes of one tile level, from position `begin`, a multiple of 256."""

    __slots__ = ("begin", "hashes")

    def __init__(self, begin: int = 0, hashes: list[bytes] | None = None) -> None:
        self.begin = begin
        self.hashes = hashes if hashes is not None else []


class Edge:
    """All rows, lowest first."""

    def __init__(self, rows: list[Row] | None = None) -> None:
        self._rows = rows or [Row()]

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Adds the next leaf hashes."""
        self._rows[0].hashes.extend(leaves)

    def slice(self, row: int, begin: int, count: int) -> list[bytes] | None:
        """Hashes [begin, begin + count) of a row; None when they are on disk only."""
        if row:
            self._carry()
        if row >= len(self._rows) or begin < self._rows[row].begin:
            return None
        start = begin - self._rows[row].begin
        return self._rows[row].hashes[start : start + count]

    def full(self) -> dict[tuple[int, int], list[bytes]]:
        """The full tiles in memory: (tile level, tile number) to 256 hashes."""
        self._carry()
        found: dict[tuple[int, int], list[bytes]] = {}
        for level, row in enumerate(self._rows):
            for at in range(0, len(row.hashes) - WIDTH + 1, WIDTH):
                found[(level, (row.begin + at) // WIDTH)] = row.hashes[at : at + WIDTH]
        return found

    def trim(self, on_disk: list[tuple[int, int]]) -> None:
        """Forgets the tiles that `full` named, in that order, once they are on disk."""
        for level, _ in on_disk:
            del self._rows[level].hashes[:WIDTH]
            self._rows[level].begin += WIDTH

    def _carry(self) -> None:
        """Adds to every row the roots over the row below that are not in it yet."""
        for level, row in enumerate(self._rows):
            full = (row.begin + len(row.hashes)) // WIDTH
            if level + 1 == len(self._rows):
                if not full:
                    return
                self._rows.append(Row())
            above = self._rows[level + 1]
            for group in range(above.begin + len(above.hashes), full):
                at = group * WIDTH - row.begin
                above.hashes.append(root_of(row.hashes[at : at + WIDTH]))
