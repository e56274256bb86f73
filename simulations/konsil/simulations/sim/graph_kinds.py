"""Graph kinds: the undirected graphs that are named in a scenario, each built in one function.

A kind takes the section `[topology]`, how many nodes there are, and the seed of a draw, and
gives a graph over 0 … nodes - 1. What a daemon's demo has too is `konsil.simulations.topology`'s.
A degree that the kind cannot have raises `ConfigError`; whether the graph came out connected is
the caller's to see. One more kind is one function and one line in `KINDS`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError
from konsil.simulations import topology as shared

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import networkx as nx

    from konsil.simulations.sim.scenario import Topology

    Kind = Callable[[Topology, int, int], nx.Graph]

USUAL_DEGREE = 4
"""Where the scenario names none and there are nodes enough."""

_HOPELESS = 20
"""Expected nodes without a link beyond which no draw comes out connected (chance e ** -20)."""


def checked_degree(topology: Topology, nodes: int) -> int | None:
    """The degree as written, or None. Raises `ConfigError` when there are too few nodes for it."""
    if topology.degree is not None and topology.degree >= nodes:
        raise ConfigError(
            f"[topology] degree = {topology.degree} needs at least {topology.degree + 1} nodes",
            hint=f"[population] nodes is {nodes}",
        )
    return topology.degree


def random_regular(topology: Topology, nodes: int, seed: int) -> nx.Graph:
    """Everybody has `degree` links (networkx's Steger–Wormald draw)."""
    degree = checked_degree(topology, nodes)
    if degree is not None and degree * nodes % 2:
        raise ConfigError(
            f"[topology] degree = {degree} over {nodes} nodes: no graph gives everybody that many",
            hint="take an even degree, or an even number of nodes",
        )
    if degree == 1 and nodes > 2:
        raise ConfigError(
            "[topology] degree = 1 makes pairs that never hear of each other",
            hint="take 3 or more",
        )
    return shared.random_regular(nodes, seed, degree)


def small_world(topology: Topology, nodes: int, seed: int) -> nx.Graph:
    """A ring of the `degree` nearest, a share `rewire` of it laid anew (Watts and Strogatz)."""
    degree = checked_degree(topology, nodes)
    if degree is not None and degree % 2:
        raise ConfigError(
            f"[topology] degree = {degree} is odd; small_world has as many links to either side",
            hint=f"take {degree + 1}",
        )
    return shared.small_world(nodes, seed, degree, topology.rewire)


def scale_free(topology: Topology, nodes: int, seed: int) -> nx.Graph:
    """Every node links to `degree // 2` that are linked already, by degree (Barabási, Albert)."""
    import networkx as nx

    degree = checked_degree(topology, nodes)
    if degree == 1:
        raise ConfigError("[topology] degree = 1 is too few for scale_free", hint="take 2 or more")
    if degree is None:
        degree = min(USUAL_DEGREE, nodes)
    return nx.barabasi_albert_graph(nodes, max(1, min(degree // 2, nodes - 1)), seed=seed)


def erdos_renyi(topology: Topology, nodes: int, seed: int) -> nx.Graph:
    """Each pair is linked with the same chance, so that the mean degree is `degree`."""
    import networkx as nx

    degree = checked_degree(topology, nodes)
    if degree is None:
        degree = min(USUAL_DEGREE, nodes - 1)
    chance = degree / (nodes - 1)
    alone = nodes * (1 - chance) ** (nodes - 1)
    if alone > _HOPELESS:
        raise ConfigError(
            f"[topology] degree = {degree} leaves about {alone:.0f} of {nodes} nodes unlinked",
            hint=f"an erdos_renyi graph of that size needs about {math.ceil(math.log(nodes))}",
        )
    return nx.fast_gnp_random_graph(nodes, chance, seed=seed)


KINDS: Mapping[str, Kind] = {
    "ring": lambda _topology, nodes, seed: shared.ring(nodes, seed),
    "ring_chords": lambda _topology, nodes, seed: shared.ring_chords(nodes, seed),
    "star": lambda _topology, nodes, seed: shared.star(nodes, seed),
    "complete": lambda _topology, nodes, seed: shared.complete(nodes, seed),
    "grid": lambda _topology, nodes, seed: shared.grid(nodes, seed),
    "erdos_renyi": erdos_renyi,
    "small_world": small_world,
    "scale_free": scale_free,
    "random_regular": random_regular,
}
"""Every kind that is drawn once, by name."""
