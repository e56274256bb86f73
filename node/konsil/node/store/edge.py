"""The right edge of a tiled Merkle tree: the hashes that are in no full tile on disk yet.

Row L holds the hashes of tile level L (each over 256^L leaves) from the first that may not
be on disk. A row that reaches a multiple of 256 carries the root of that group into the
row above.
"""

from __future__ import annotations

from konsil.protocol.merkle import root_of
from konsil.protocol.tiles import WIDTH


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

    def push(self, leaf: bytes) -> None:
        """Adds the next leaf hash."""
        self._push(0, leaf)

    def slice(self, row: int, begin: int, count: int) -> list[bytes] | None:
        """Hashes [begin, begin + count) of a row; None when they are on disk only."""
        if row >= len(self._rows) or begin < self._rows[row].begin:
            return None
        start = begin - self._rows[row].begin
        return self._rows[row].hashes[start : start + count]

    def full(self) -> dict[tuple[int, int], list[bytes]]:
        """The full tiles in memory: (tile level, tile number) to 256 hashes."""
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

    def _push(self, level: int, item: bytes) -> None:
        if level == len(self._rows):
            self._rows.append(Row())
        row = self._rows[level]
        row.hashes.append(item)
        if len(row.hashes) % WIDTH == 0:
            self._push(level + 1, root_of(row.hashes[-WIDTH:]))
