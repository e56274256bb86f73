"""Links: who hears whom in one round, as arrays.

A link is directed, from a sender to a receiver; an undirected graph has both. Links are sorted
by receiver, then sender, so that all of a receiver's candidates lie side by side, in the order
in which every part of the simulator sees them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable

Nodes: TypeAlias = npt.NDArray[np.int64]
"""Node numbers, or counts."""
Mask: TypeAlias = npt.NDArray[np.bool_]


def distinct(keys: Nodes) -> Nodes:
    """The keys (none negative) in ascending order, each once.

    numpy's `unique` hashes whole numbers, which takes ten times as long as to sort them.
    """
    keys = np.sort(keys)
    return keys[np.diff(keys, prepend=-1) > 0]


@dataclass(frozen=True)
class Links:
    """The links of one round among nodes 0 … `nodes` - 1; use `Links.of` to make them."""

    nodes: int
    receiver: Nodes
    """Receiver of each link, ascending."""
    sender: Nodes
    """Sender of each link, ascending within a receiver."""

    @classmethod
    def of(cls, nodes: int, receiver: Nodes, sender: Nodes) -> Links:
        """Sorted links, without repetitions and without links of a node to itself."""
        keys = distinct((receiver * nodes + sender)[receiver != sender])
        return cls(nodes, keys // nodes, keys % nodes)

    @classmethod
    def between(cls, nodes: int, edges: Iterable[tuple[int, int]]) -> Links:
        """Both directions of every undirected edge."""
        pairs = np.array(list(edges), dtype=np.int64).reshape(-1, 2)
        one, other = pairs[:, 0], pairs[:, 1]
        return cls.of(nodes, np.concatenate([one, other]), np.concatenate([other, one]))

    def __len__(self) -> int:
        return len(self.receiver)

    @property
    def degrees(self) -> Nodes:
        """How many senders each receiver hears."""
        return np.bincount(self.receiver, minlength=self.nodes)

    @property
    def starts(self) -> Nodes:
        """Where each receiver's links begin; one entry more than there are nodes."""
        return np.concatenate([[0], np.cumsum(self.degrees)])

    @property
    def places(self) -> Nodes:
        """The place of each link among its receiver's links, from 0."""
        return np.arange(len(self)) - self.starts[self.receiver]

    @property
    def even(self) -> bool:
        """Does every receiver hear equally many, at least one?"""
        degrees = self.degrees
        return len(self) > 0 and bool((degrees == degrees[0]).all())

    def of_receivers(self, begin: int, end: int) -> tuple[Links, Mask]:
        """The links to nodes `begin` … `end` - 1, these counted from 0; and which links they are.

        Senders keep their numbers.
        """
        mine = (self.receiver >= begin) & (self.receiver < end)
        return Links(end - begin, self.receiver[mine] - begin, self.sender[mine]), mine

    def keep(self, mask: Mask) -> Links:
        """The links where `mask` holds."""
        return Links(self.nodes, self.receiver[mask], self.sender[mask])
