"""Places: where the nodes of a topology stand in a picture.

Kinds with a shape of their own are laid out in it, in the order of the nodes' numbers; all
others are left to find their places by their links. Deterministic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from konsil.simulations.sim.links import Links

    Places: TypeAlias = npt.NDArray[np.float64]

ROUND = ("ring", "ring_chords", "complete", "epidemic", "time_varying")
"""Kinds that are drawn as a circle."""
_FEW = 100
"""Nodes for which a layout of distances (Kamada and Kawai, 1989) is quick enough."""
_STEPS = 200


def places(kind: str, links: Links) -> Places:
    """(nodes, 2): a place of each node."""
    nodes = links.nodes
    if kind in ROUND:
        return _circle(nodes)
    if kind == "star":
        return np.concatenate([np.zeros((1, 2)), _circle(nodes - 1)])
    if kind == "grid":
        width = max(1, round(nodes**0.5))
        row, column = np.divmod(np.arange(nodes), width)
        return np.stack([column, -row], axis=1).astype(np.float64)
    return _found(links)


def _circle(nodes: int) -> Places:
    turns = 2 * np.pi * np.arange(nodes) / max(nodes, 1)
    return np.stack([np.sin(turns), np.cos(turns)], axis=1)


def _found(links: Links) -> Places:
    import networkx as nx

    graph = nx.empty_graph(links.nodes)
    graph.add_edges_from(zip(links.receiver.tolist(), links.sender.tolist(), strict=True))
    if links.nodes <= _FEW:
        found = nx.kamada_kawai_layout(graph)
    else:
        found = nx.spring_layout(graph, iterations=_STEPS, seed=0)
    return np.array([found[node] for node in range(links.nodes)])
