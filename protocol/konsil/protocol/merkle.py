"""The Merkle tree of RFC 6962: leaves, roots, inclusion and consistency proofs.

Leaf = SHA-256(0x00 ‖ record), inner node = SHA-256(0x01 ‖ left ‖ right), empty tree =
SHA-256 of nothing. The record of a ledger entry is short (`konsil.protocol.leaves`); other
trees are over whole records. A *complete* subtree of 2^level leaves is addressed by
(level, index); proofs are lists of such addresses, so the same code proves from a
tree in memory and from tiles on disk (`Nodes`). Verifiers follow RFC 9162 §2.1.3.2
and §2.1.4.2 and demand that every hash has exactly 32 bytes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from konsil.protocol import leaves
from konsil.protocol.errors import LocalProtocolError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes | memoryview) -> bytes:
    """The 32-byte hash of one ledger entry; of bytes that do not end as one, `record_hash`."""
    return leaves.hash_of(data)


def record_hash(data: bytes) -> bytes:
    """The 32-byte leaf hash of a whole record, in a tree that is not over entries."""
    return sha256(b"\x00" + data).digest()


def leaf_hashes(items: Iterable[bytes]) -> list[bytes]:
    """The hashes of many entries, in order."""
    return leaves.hashes_of(items)


def node_hash(left: bytes, right: bytes) -> bytes:
    """The 32-byte hash of an inner node over its two children."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over leaf *hashes* in order; the empty root for none.

    Raises `LocalProtocolError` when a hash is not 32 bytes.
    """
    if not leaf_hashes:
        return EMPTY_ROOT
    level = list(leaf_hashes)
    if {*map(len, level)} != {HASH_BYTES}:
        raise LocalProtocolError("a leaf hash must have 32 bytes")
    hasher = sha256
    while len(level) > 1:
        odd = level[-1] if len(level) % 2 else None
        pairs = zip(level[0::2], level[1::2], strict=False)
        level = [hasher(b"\x01" + left + right).digest() for left, right in pairs]
        if odd is not None:
            level.append(odd)
    return level[0]


class Nodes(Protocol):
    """Where the hashes of complete subtrees come from: memory, or tiles on disk."""

    def node(self, level: int, index: int) -> bytes:
        """The root of leaves [index·2^level, (index+1)·2^level), all of which exist."""


Address = tuple[int, int]


def cover(begin: int, end: int) -> list[Address]:
    """The complete subtrees that tile leaves [begin, end), left to right.

    `begin` must be a multiple of the largest power of two below `end - begin`, as it is for
    every subtree range of an RFC 6962 tree.
    """
    found: list[Address] = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        found.append((level, begin >> level))
        begin += 1 << level
    return found


def fold(hashes: Iterable[bytes]) -> bytes:
    """The root of neighbouring complete subtrees of falling size, given left to right."""
    stack = list(hashes)
    if not stack:
        return EMPTY_ROOT
    root = stack.pop()
    while stack:
        root = node_hash(stack.pop(), root)
    return root


def range_root(nodes: Nodes, begin: int, end: int) -> bytes:
    """The RFC 6962 hash of leaves [begin, end)."""
    return fold(nodes.node(level, index) for level, index in cover(begin, end))


def grown_root(nodes: Nodes, size: int, leaves: Iterable[bytes]) -> bytes:
    """The root once leaf hashes `leaves` follow the first `size`; nothing is kept."""
    peaks = Peaks((level, nodes.node(level, index)) for level, index in cover(0, size))
    for leaf in leaves:
        peaks.push(leaf)
    return peaks.root()


class Peaks:
    """The right edge of a growing tree: its complete subtrees and their roots, nothing below.

    So a root costs no memory, however many leaves there are; nothing can be proven from it.
    """

    def __init__(self, peaks: Iterable[tuple[int, bytes]] = ()) -> None:
        """Begins with complete subtrees as `cover` names them: (level, root), left to right."""
        self._peaks = list(peaks)

    def push(self, leaf: bytes) -> None:
        """Adds one leaf *hash*."""
        level, found = 0, leaf
        while self._peaks and self._peaks[-1][0] == level:
            found = node_hash(self._peaks.pop()[1], found)
            level += 1
        self._peaks.append((level, found))

    def root(self) -> bytes:
        """The root over all leaves so far."""
        return fold(found for _, found in self._peaks)


def _split(count: int) -> int:
    """The largest power of two below `count` (≥ 2)."""
    return 1 << (count - 1).bit_length() - 1


def inclusion_proof(nodes: Nodes, index: int, size: int) -> list[bytes]:
    """PATH(index, D[0:size]): the proof that leaf `index` is in the tree of `size` leaves."""
    if not 0 <= index < size:
        raise LocalProtocolError(f"no leaf {index} in a tree of {size}")
    # From the leaf upwards: siblings are complete subtrees, until one reaches the right edge.
    found: list[bytes] = []
    begin, level = index, 0
    while begin or 1 << level < size:
        end = begin + (1 << level)
        if begin >> level & 1:
            # A left sibling, always complete; a lone subtree at the edge waits for its own.
            begin -= 1 << level
            found.append(nodes.node(level, begin >> level))
        elif end < size:
            whole = end + (1 << level) <= size
            root = nodes.node(level, end >> level) if whole else range_root(nodes, end, size)
            found.append(root)
        level += 1
    return found


def consistency_proof(nodes: Nodes, old: int, size: int) -> list[bytes]:
    """PROOF(old, D[0:size]): the proof that the first `old` leaves were not changed."""
    if not 0 < old <= size:
        raise LocalProtocolError(f"no consistency proof from {old} to {size}")
    begin, end = 0, size
    ranges: list[tuple[int, int]] = []
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:
        ranges.append((begin, end))
    return [range_root(nodes, low, high) for low, high in reversed(ranges)]


class Tree:
    """A growing tree in memory: every complete subtree is kept, so any proof is O(log² n)."""

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for item in leaf_hashes:
            self.append(item)

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Adds one leaf *hash* and returns its index."""
        if len(leaf) != HASH_BYTES:
            raise LocalProtocolError("a leaf hash must have 32 bytes")
        index = self.size
        self._levels[0].append(leaf)
        level, position = 0, index
        while position & 1:
            below = self._levels[level]
            leaf = node_hash(below[position - 1], below[position])
            level, position = level + 1, position >> 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(leaf)
        return index

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree (level, index)."""
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves (all by default)."""
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise LocalProtocolError(f"no root at {size} in a tree of {self.size}")
        return range_root(self, 0, size)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion proof of leaf `index` under the root at `size`."""
        return inclusion_proof(self, index, self._bounded(size))

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """The consistency proof from the root at `old` to the root at `size`."""
        return consistency_proof(self, old, self._bounded(size))

    def _bounded(self, size: int | None) -> int:
        size = self.size if size is None else size
        if size > self.size:
            raise LocalProtocolError(f"no proof at {size} in a tree of {self.size}")
        return size


def _demand_hashes(*hashes: bytes) -> None:
    if {*map(len, hashes)} != {HASH_BYTES}:
        raise ManifestRefused("a hash of a Merkle proof must have 32 bytes")


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Accepts a proof that leaf hash `leaf` stands at `index` under `root` (RFC 9162 §2.1.3.2).

    Raises `ManifestRefused` otherwise.
    """
    _demand_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise ManifestRefused(f"inclusion proof for leaf {index} of a tree of {size}")
    position, last, computed, hasher = index, size - 1, leaf, sha256
    for item in proof:
        if last == 0:
            raise ManifestRefused("inclusion proof is too long")
        if position & 1 or position == last:
            computed = hasher(b"\x01" + item + computed).digest()
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            computed = hasher(b"\x01" + computed + item).digest()
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ManifestRefused("inclusion proof is too short")
    if computed != root:
        raise ManifestRefused(f"leaf {index} is not under this root of {size} leaves")


def verify_consistency(
    old: int, size: int, proof: Sequence[bytes], old_root: bytes, root: bytes
) -> None:
    """Accepts a proof that the tree at `size` extends the one at `old` (RFC 9162 §2.1.4.2).

    `old` must be at least 1: from an empty tree nothing can be proven.
    Raises `ManifestRefused` otherwise.
    """
    _demand_hashes(old_root, root, *proof)
    if not 0 < old <= size:
        raise ManifestRefused(f"consistency proof from {old} to {size} leaves")
    if old == size:
        if proof or old_root != root:
            raise ManifestRefused(f"two roots for one size {size}")
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise ManifestRefused("consistency proof is empty")
    position, last = old - 1, size - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    old_computed, computed = _walk(path, position, last)
    if old_computed != old_root or computed != root:
        raise ManifestRefused(f"the tree of {size} leaves does not extend the one of {old}")


def _walk(path: Sequence[bytes], position: int, last: int) -> tuple[bytes, bytes]:
    """Both roots that a consistency path leads to; refuses a path of the wrong length."""
    old_computed = computed = path[0]
    for item in path[1:]:
        if last == 0:
            raise ManifestRefused("consistency proof is too long")
        if position & 1 or position == last:
            old_computed = node_hash(item, old_computed)
            computed = node_hash(item, computed)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            computed = node_hash(computed, item)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ManifestRefused("consistency proof is too short")
    return old_computed, computed
