"""Memory: the evidence that each node keeps about every sender it ever judged.

Sparse, because in a changing graph of thousands of nodes most pairs never meet. Keyed by
receiver and sender, so that whoever comes back finds the old record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.links import distinct

if TYPE_CHECKING:
    from konsil.simulations.sim.links import Links, Nodes
    from konsil.trust.fixed import Integers


class Memory:
    """Evidence `(r, s)` by pair, in 1e-9; a pair that never met has none."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._keys = np.zeros(0, dtype=np.int64)
        self._evidence = np.zeros((2, 0), dtype=np.int64)

    def of(self, links: Links) -> tuple[Integers, Integers]:
        """What each link's receiver remembers of its sender."""
        keys = self._keys_of(links)
        if np.array_equal(keys, self._keys):
            return self._evidence[0], self._evidence[1]
        places = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), dtype=bool)
        inside = places < len(self._keys)
        known[inside] = self._keys[places[inside]] == keys[inside]
        found = np.zeros((2, len(keys)), dtype=np.int64)
        found[:, known] = self._evidence[:, places[known]]
        return found[0], found[1]

    def keep(self, links: Links, r_e9: Integers, s_e9: Integers) -> None:
        """Remembers this of each link from now on."""
        keys = self._keys_of(links)
        if np.array_equal(keys, self._keys):
            self._evidence = np.stack([r_e9, s_e9])
            return
        merged = distinct(np.concatenate([self._keys, keys]))
        evidence = np.zeros((2, len(merged)), dtype=np.int64)
        evidence[:, np.searchsorted(merged, self._keys)] = self._evidence
        evidence[:, np.searchsorted(merged, keys)] = r_e9, s_e9
        self._keys, self._evidence = merged, evidence

    def _keys_of(self, links: Links) -> Nodes:
        return links.receiver * self._nodes + links.sender
