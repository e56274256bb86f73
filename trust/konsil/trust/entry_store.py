"""Where the entries of one log lie: what a ledger asks of files, and a store in memory.

A store keeps bytes and hashes and judges nothing. What `append` has returned from is durable, and
entries are only ever added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from konsil.protocol import merkle

if TYPE_CHECKING:
    from collections.abc import Sequence


class Store(merkle.Nodes, Protocol):
    """Where the entries of one log lie: memory, or files."""

    @property
    def size(self) -> int:
        """The number of entries that are durable."""

    @property
    def checkpoint(self) -> bytes | None:
        """The last saved checkpoint note; None before the first."""

    def append(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Adds (entry, leaf hash) pairs; all are durable on return, or none is added."""

    def entry(self, index: int) -> bytes:
        """The bytes of entry `index`, which exists."""

    def save_checkpoint(self, data: bytes) -> None:
        """Replaces the checkpoint note atomically and durably."""


class MemoryStore:
    """A store that forgets."""

    def __init__(self) -> None:
        self._tree = merkle.Tree()
        self._entries: list[bytes] = []
        self._checkpoint: bytes | None = None

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self._entries)

    @property
    def checkpoint(self) -> bytes | None:
        """The last saved checkpoint note."""
        return self._checkpoint

    def append(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Adds (entry, leaf hash) pairs."""
        for data, leaf in items:
            self._entries.append(data)
            self._tree.append(leaf)

    def entry(self, index: int) -> bytes:
        """The bytes of entry `index`."""
        return self._entries[index]

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        return self._tree.node(level, index)

    def save_checkpoint(self, data: bytes) -> None:
        """Replaces the checkpoint note."""
        self._checkpoint = data
