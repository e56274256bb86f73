"""Healing: the links that close the gap around nodes which are away.

As in the daemons' overlay (`konsil.node.exchange.overlay`, against which it is tested): the
survivors around each connected group of absent nodes link up as a ring, in the order of their
numbers, and each with the one across. While the graph is cut, the survivors of each side do so
among themselves. Links are taken to go both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.links import distinct

if TYPE_CHECKING:
    from konsil.simulations.sim.links import Links, Mask, Nodes


def around_the_absent(links: Links, present: Mask, side: Nodes) -> tuple[Nodes, Nodes]:
    """Receivers and senders of the links that survivors add, in no order and with repetitions.

    Some of these links may be there already, and a node alone in its ring is linked with itself
    here. `side` (one entry a node) is 0 or 1, and all 0 while the graph is whole.
    """
    nodes = links.nodes
    group = _groups(links, present)
    edge = present[links.receiver] & ~present[links.sender]
    back = present[links.sender] & ~present[links.receiver]
    survivor = np.concatenate([links.receiver[edge], links.sender[back]])
    absent = np.concatenate([links.sender[edge], links.receiver[back]])
    keys = distinct((group[absent] * 2 + side[survivor]) * nodes + survivor)
    ring, member = keys // nodes, keys % nodes
    starts = np.flatnonzero(np.diff(ring, prepend=-1))
    sizes = np.diff(starts, append=len(ring))
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    place = np.arange(len(member)) - start
    others = [member[start + (place + step) % size] for step in (1, size // 2)]
    ahead, member = np.concatenate(others), np.concatenate([member, member])
    return np.concatenate([member, ahead]), np.concatenate([ahead, member])


def _groups(links: Links, present: Mask) -> Nodes:
    """A number for each node that absent nodes share when a path of absent nodes joins them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    both = ~present[links.receiver] & ~present[links.sender]
    places = (links.receiver[both], links.sender[both])
    shape = (links.nodes, links.nodes)
    joined = coo_array((np.ones(len(places[0]), dtype=np.int8), places), shape=shape)
    return np.asarray(connected_components(joined, directed=False)[1], dtype=np.int64)
