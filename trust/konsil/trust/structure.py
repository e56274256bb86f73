"""The structure of one ledger: its tree, its keys and its counts, as recomputed from its files.

It keeps one hash for 256 entries, so memory does not grow with the bytes, and reads the rest again
where it is asked for. It answers and judges nothing: `konsil.trust.walking` fills it.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import merkle, tiles
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.trust.places import (
    leaves_in_bundle,
    leaves_in_tail,
    leaves_in_tile,
)

if TYPE_CHECKING:
    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.genesis import Author
    from konsil.protocol.keyring import Keyring
    from konsil.trust.layout import (
        Layout,
    )


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an entry stands, and the leaf hash of the bytes there."""

    file: Path
    offset: int
    index: int
    leaf: bytes


class Pruned(msgspec.Struct, frozen=True, gc=False):
    """A body that is not here any more, and the leaf hash that stands for it."""

    place: Place
    leaf: bytes


class Structure:
    """What `walk` leaves: the tree, the author, and the counts."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.author: Author | None = None
        self.keys: Keyring | None = None
        self.head: Checkpoint | None = None
        self.types: Counter[str] = Counter()
        self.opaque = 0
        self.pruned: list[Pruned] = []
        self.size = 0
        self.lost: list[int] = []
        """Entries whose bytes are not here, or were changed."""
        self.lost_keys: int | None = None
        """The first of them that may have been a change of keys."""
        self.unsure: int | None = None
        """The first entry whose leaf hash nobody can tell for sure, because a tail is damaged."""
        self._groups = merkle.Tree()
        self._partial: list[bytes] = []
        self._kept: dict[int, list[bytes]] | None = None

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree."""
        if level >= tiles.HEIGHT:
            return self._groups.node(level - tiles.HEIGHT, index)
        begin = index << level
        hashes = self.leaves(begin // tiles.WIDTH)
        at = begin % tiles.WIDTH
        return merkle.root_of(hashes[at : at + (1 << level)])

    def leaves(self, group: int) -> list[bytes]:
        """The leaf hashes of one group of 256, read again for all but the last group.

        Raises `ManifestRefused` when the group cannot be read any more.
        """
        if group == self._groups.size:
            return self._partial
        if self._kept is not None and group in self._kept:
            return self._kept[group]
        # A running node removes a tail once its bundles are there: so these are looked at again.
        for read in (leaves_in_bundle, leaves_in_tile, leaves_in_tail, leaves_in_bundle):
            with suppress(RemoteError, FileNotFoundError):
                hashes = read(self.layout, group)
                if merkle.root_of(hashes) == self._groups.node(0, group):
                    return hashes
        raise ManifestRefused(f"entries {group * tiles.WIDTH}… cannot be read again")

    def root(self, size: int | None = None) -> bytes:
        """The recomputed root over the first `size` entries (all by default)."""
        return merkle.range_root(self, 0, self.size if size is None else size)

    def knows(self, size: int) -> bool:
        """Whether the root over the first `size` entries can be told in spite of the damage."""
        return self.unsure is None or size <= self.unsure

    def agrees(self, head: Checkpoint) -> bool:
        """Whether the first `head.size` entries, which must be here, have the head's root."""
        try:
            return self.knows(head.size) and self.root(head.size) == head.root
        except ManifestRefused:
            return False

    def contradicts(self, head: Checkpoint) -> bool:
        """Whether the first `head.size` entries have another root, as far as one can tell."""
        return self.knows(head.size) and not self.agrees(head)

    def tile_root(self, level: int, number: int) -> bytes:
        """The hash over everything below hash tile `number` of tile level `level`."""
        return self._groups.node(level * tiles.HEIGHT, number)

    def extend(self, leaves: list[bytes]) -> None:
        """Adds the next leaves."""
        if self._partial or len(leaves) != tiles.WIDTH:
            for leaf in leaves:
                self._push(leaf)
        else:
            self.size += tiles.WIDTH
            self._complete(leaves)

    def _push(self, leaf: bytes) -> None:
        self._partial.append(leaf)
        self.size += 1
        if len(self._partial) == tiles.WIDTH:
            self._complete(self._partial)
            self._partial = []

    def _complete(self, leaves: list[bytes]) -> None:
        """Adds a whole group."""
        if self._kept is not None:
            self._kept[self._groups.size] = leaves
        self._groups.append(merkle.root_of(leaves))

    def keep(self) -> None:
        """From now on leaf hashes stay in memory: they cannot be read again from a damaged tail,
        and not one group after the other from a long one."""
        if self._kept is None:
            self._kept = {}
