"""Mirrors: what this node keeps of the logs of others, so that they can be held to their word.

One file a member, frames as in a tail (a body that is withheld has length 0). Held are the
leaves up to the last root that the member signed for. What stands behind them is *taken*: it
came in a portion, so that no log has to fit into memory and a broken link costs one portion,
and it counts for nothing until a signed root covers it. Leaves that contradict a signed root
are never written. A mirror that does not agree with its signed roots any more is cut back, and
asked for again: it is a copy, never the truth.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from konsil.node.store.canopy import Canopy
from konsil.node.store.durable import storage_error, write_at
from konsil.node.store.reading import opened
from konsil.protocol import merkle, tiles
from konsil.protocol.errors import LimitExceeded, ManifestRefused
from konsil.protocol.keyring import is_change
from konsil.protocol.merkle import HASH_BYTES
from konsil.protocol.mirror import Leaf
from konsil.protocol.tiles import PREFIX_BYTES, WIDTH

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint

SUFFIX = ".mirror"
MAX_CHANGES = 1_024
"""Changes of keys that are followed in one log."""
READ_BYTES = 1 << 17
MAX_FRAME_BYTES = PREFIX_BYTES + 0xFFFF + HASH_BYTES


class Change(msgspec.Struct, frozen=True):
    """An entry that changes a key: its index and its bytes."""

    index: int
    entry: bytes


class Mirror:
    """What is held of one log: the first `size` leaves, and the bodies that we may see.

    Whoever uses it from several threads does so under a lock.
    """

    def __init__(self, path: Path, roots: Mapping[int, bytes]) -> None:
        """Opens the file at `path`, or begins one; `roots` are signed roots by log size.

        Raises `StorageError`.
        """
        self._path = path
        self.tree = Canopy(self._hashes)
        self.changes: list[Change] = []
        """The changes of keys in the leaves that are held, and behind them in those taken."""
        self._starts = array("Q")
        """Where the frames of each group of 256 begin, in bytes."""
        self._size = 0
        self._end = 0
        try:
            there = _size(path)
            self._load(there, roots)
        except OSError as error:
            raise storage_error(path, error) from error
        if self._end < there:
            write_at(path, b"", self._end)

    @property
    def size(self) -> int:
        """How many entries are held."""
        return self._size

    @property
    def taken(self) -> int:
        """How many entries are in the file, held or not."""
        return self.tree.size

    @property
    def disk_bytes(self) -> int:
        """How much of our disk the mirror takes."""
        return self._end

    def root(self, size: int) -> bytes:
        """The root over the first `size` entries, which were taken."""
        return self.tree.root(size)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes that were taken."""
        return merkle.consistency_proof(self.tree, old, size)

    def leaves(self, first: int, count: int) -> list[Leaf]:
        """At most `count` of the held entries from `first` on. Raises `StorageError`."""
        count = min(count, self._size - first)
        if count <= 0:
            return []
        group, skipped = divmod(first, WIDTH)
        try:
            found = islice(self._frames(self._starts[group], self._end), skipped, skipped + count)
            return [Leaf(entry or None, leaf) for _, entry, leaf in found]
        except OSError as error:
            raise storage_error(self._path, error) from error

    def changes_in(self, leaves: Sequence[Leaf]) -> list[Change]:
        """The changes of keys in leaves that follow those that were taken.

        Raises `LimitExceeded` when the keys of the log change too often.
        """
        found = [
            Change(index, item.entry) for index, item in enumerate(leaves, self.taken)
            if item.entry and is_change(item.entry)
        ]  # fmt: skip
        if len(self.changes) + len(found) > MAX_CHANGES:
            raise LimitExceeded(f"more than {MAX_CHANGES} changes of keys in one log")
        return found

    def take(self, leaves: Sequence[Leaf], roots: Mapping[int, bytes] | None = None) -> None:
        """Adds leaves behind those that were taken, durably; nobody vouches for them yet.

        Raises `ManifestRefused` when they do not lead to one of the signed `roots` (by log size),
        `LimitExceeded` when the keys of the log change too often, and `StorageError`; then
        nothing is added.
        """
        pairs = [(item.entry or b"", item.leaf) for item in leaves]
        changes = self.changes_in(leaves)
        for size, root in self._grown((leaf for _, leaf in pairs), roots or {}):
            if root != (roots or {})[size]:
                raise ManifestRefused(f"the leaves do not lead to the signed root of {size}")
        write_at(self._path, tiles.frames(pairs), self._end)
        self.changes += changes
        for entry, leaf in pairs:
            self._add(leaf, self._end + PREFIX_BYTES + len(entry) + HASH_BYTES)

    def hold(self, head: Checkpoint) -> None:
        """What was taken up to `head`, which the log signed, is held from now on.

        Raises `ManifestRefused` when the leaves do not lead there, and `StorageError`.
        """
        if not self._size <= head.size <= self.taken or self.root(head.size) != head.root:
            raise ManifestRefused(f"the leaves do not lead to the signed root of {head.size}")
        self._size = head.size

    def drop(self) -> None:
        """Forgets what was taken and is not held. Raises `StorageError`."""
        if self.taken == self._size:
            return
        group, rest = divmod(self._size, WIDTH)
        end = self._starts[group]
        try:
            for behind, _, _ in islice(self._frames(end, self._end), rest):
                end = behind
            self.tree.cut(self._size)
        except OSError as error:
            raise storage_error(self._path, error) from error
        write_at(self._path, b"", end)
        del self._starts[group + (rest > 0) :]
        self._end = end
        self.changes = [item for item in self.changes if item.index < self._size]

    def forget(self) -> None:
        """Forgets all of it. Raises `StorageError`."""
        self._size = 0
        self.drop()

    def _grown(self, leaves: Iterable[bytes], sizes: Container[int]) -> Iterator[tuple[int, bytes]]:
        """The root at each of the sizes that leaves behind those taken reach; nothing is kept."""
        addresses = merkle.cover(0, self.taken)
        peaks = merkle.Peaks((level, self.tree.node(level, index)) for level, index in addresses)
        for size, leaf in enumerate(leaves, self.taken + 1):
            peaks.push(leaf)
            if size in sizes:
                yield size, peaks.root()

    def _add(self, leaf: bytes, end: int) -> None:
        if self.tree.size % WIDTH == 0:
            self._starts.append(self._end)
        self.tree.append(leaf)
        self._end = end

    def _load(self, there: int, roots: Mapping[int, bytes]) -> None:
        """Takes the whole frames of the file, and holds those up to the last root that agrees."""
        agrees = True
        for behind, entry, leaf in self._frames(0, there):
            if entry and merkle.leaf_hash(entry) != leaf:
                break
            if is_change(entry):
                self.changes.append(Change(self.taken, entry))
            self._add(leaf, behind)
            if self.taken in roots:
                agrees = self.root(self.taken) == roots[self.taken]
                self._size = self.taken if agrees else self._size
        if not agrees or len(self.changes) > MAX_CHANGES:
            self.drop()

    def _frames(self, offset: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        """(offset behind it, entry, leaf hash) of the whole frames in a part of the file."""
        if offset >= end:
            return
        data, at = b"", 0
        with opened(self._path)[0] as file:
            file.seek(offset)
            while offset < end:
                if len(data) - at < MAX_FRAME_BYTES:
                    data, at = data[at:] + file.read(READ_BYTES), 0
                start = at + PREFIX_BYTES
                stop = start + int.from_bytes(data[at:start], "big")
                offset += stop + HASH_BYTES - at
                if stop + HASH_BYTES > len(data):
                    return
                at = stop + HASH_BYTES
                yield offset, data[start:stop], data[stop:at]

    def _hashes(self, group: int) -> list[bytes]:
        return [leaf for _, _, leaf in islice(self._frames(self._starts[group], self._end), WIDTH)]


def _size(path: Path) -> int:
    """How many bytes a mirror has; none where there is none. Raises `StorageError`."""
    try:
        file, size = opened(path)
    except FileNotFoundError:
        return 0
    file.close()
    return size
