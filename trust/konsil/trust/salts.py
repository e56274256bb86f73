"""The salts of one log: none may be used twice.

Kept as bare bytes with their positions, in buckets that nobody can aim at, and compared once
the log has ended: a set of a million salts would take four times the memory.
"""

from __future__ import annotations

from collections import Counter
from struct import iter_unpack
from typing import TYPE_CHECKING

from konsil.protocol.entries import SALT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

BUCKETS = 64
_INDEX_BYTES = 8
_STEP = SALT_BYTES + _INDEX_BYTES


class Salts:
    """Feed it the salts in the order of their entries."""

    def __init__(self) -> None:
        self._buckets = [bytearray() for _ in range(BUCKETS)]

    def extend(self, salts: Iterable[bytes], index: int) -> None:
        """Notes the salts of neighbouring entries, the first of them entry `index`."""
        buckets = self._buckets
        for at, salt in enumerate(salts, index):
            # Python draws a secret for the hash of bytes at every start.
            buckets[hash(salt) % BUCKETS] += salt + at.to_bytes(_INDEX_BYTES, "big")

    def repeated(self) -> list[int]:
        """The indices of all entries whose salt stands in an entry before them, ascending."""
        found: list[int] = []
        for bucket in self._buckets:
            salts = [salt for (salt,) in iter_unpack(f"{SALT_BYTES}s{_INDEX_BYTES}x", bucket)]
            if len(set(salts)) == len(salts):
                continue
            seen: Counter[bytes] = Counter()
            for place, salt in enumerate(salts):
                if seen[salt]:
                    at = place * _STEP + SALT_BYTES
                    found.append(int.from_bytes(bucket[at : at + _INDEX_BYTES], "big"))
                seen[salt] += 1
        return sorted(found)
