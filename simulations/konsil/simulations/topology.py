"""Who is linked with whom: named graphs over the members of a consortium.

`edges(kind, names, seed)` is deterministic: the same kind, names and seed give the same
edges, in the same order, each pair in the order of `names`. Every graph is connected; a
kind that cannot be built over so few members raises `ConfigError` in one line. The builders
are the simulator's as well, so that a graph of a name is the same one in both. networkx is
imported inside the functions, so that `konsil --help` stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import networkx as nx

Edge = tuple[str, str]
"""Two linked members, by name."""

ATTEMPTS = 50
"""Fresh draws of a random graph until one is connected."""


def edges(kind: str, names: Sequence[str], *, seed: int = 0, hub: str | None = None) -> list[Edge]:
    """The edges of a connected graph over `names`.

    `hub` names the centre of a star (the first member when absent); other kinds ignore it.
    Raises `ConfigError` for an unknown kind, fewer than two members, a member named twice, or
    a graph that does not exist or does not come out connected.
    """
    if kind not in TOPOLOGIES:
        raise ConfigError(
            f"there is no topology `{kind}`", hint=f"choose one of {', '.join(sorted(TOPOLOGIES))}"
        )
    if len(names) < 2 or len(set(names)) != len(names):
        raise ConfigError(f"topology `{kind}` needs two or more members, each with its own name")
    if hub is not None and hub not in names:
        raise ConfigError(f"the hub `{hub}` is not a member")
    order = _hub_first(names, hub) if kind == "star" else list(names)
    graph = _connected(kind, len(order), seed)
    rank = {name: index for index, name in enumerate(names)}
    pairs = (sorted((order[a], order[b]), key=rank.__getitem__) for a, b in graph.edges)
    return sorted(((a, b) for a, b in pairs), key=lambda edge: (rank[edge[0]], rank[edge[1]]))


def degrees(names: Sequence[str], links: Sequence[Edge]) -> dict[str, int]:
    """How many links each member has."""
    count = dict.fromkeys(names, 0)
    for a, b in links:
        count[a] += 1
        count[b] += 1
    return count


def hub_of(names: Sequence[str], links: Sequence[Edge]) -> str:
    """The member with most links; of several, the first in `names`."""
    count = degrees(names, links)
    return max(names, key=lambda name: count[name])


def _hub_first(names: Sequence[str], hub: str | None) -> list[str]:
    centre = names[0] if hub is None else hub
    return [centre, *(name for name in names if name != centre)]


def _connected(kind: str, count: int, seed: int) -> nx.Graph:
    graph = first_connected(lambda draw: TOPOLOGIES[kind](count, draw), seed)
    if graph is None:
        raise ConfigError(
            f"topology `{kind}` over {count} members came out unconnected {ATTEMPTS} times",
            hint="choose another --topology or another --seed",
        )
    return graph


def first_connected(build: Callable[[int], nx.Graph], seed: int) -> nx.Graph | None:
    """The first connected graph of up to `ATTEMPTS` draws; none when there is none.

    `build` makes a graph from the seed of a draw; no two of the callers' seeds share a draw.
    """
    import networkx as nx

    for attempt in range(ATTEMPTS):
        graph = build(seed * ATTEMPTS + attempt)
        if nx.is_connected(graph):
            return graph
    return None


def ring(count: int, _seed: int) -> nx.Graph:
    """Everybody has two links; two members have one."""
    import networkx as nx

    return nx.cycle_graph(count) if count > 2 else nx.path_graph(count)


def ring_chords(count: int, seed: int) -> nx.Graph:
    """A ring, and chords across it so that every member has one: no degree above four.

    With three links each, one hostile neighbour cannot capture a member's median.
    """
    graph = ring(count, seed)
    reach = count // 2
    if reach > 1:
        graph.add_edges_from((start, start + reach) for start in range(reach))
        if count % 2:
            graph.add_edge(count - 1, reach - 1)
    return graph


def star(count: int, _seed: int) -> nx.Graph:
    """Member 0 is linked with all others."""
    import networkx as nx

    return nx.star_graph(count - 1)


def complete(count: int, _seed: int) -> nx.Graph:
    """Everybody is linked with everybody."""
    import networkx as nx

    return nx.complete_graph(count)


def grid(count: int, _seed: int) -> nx.Graph:
    """Rows as near to a square as can be; the last row may be short, and stays connected."""
    import networkx as nx

    width = max(1, round(count**0.5))
    graph = nx.empty_graph(count)
    graph.add_edges_from((i, i + 1) for i in range(count - 1) if (i + 1) % width)
    graph.add_edges_from((i, i + width) for i in range(count - width))
    return graph


def random_regular(count: int, seed: int, degree: int | None = None) -> nx.Graph:
    """Everybody has `degree` links; if absent, four or the next fewer that can be."""
    import networkx as nx

    if degree is None:
        degree = next((d for d in (4, 3, 2) if d < count and d * count % 2 == 0), 0)
    if degree == 0:
        return complete(count, seed)
    return nx.random_regular_graph(degree, count, seed=seed)


def small_world(count: int, seed: int, degree: int | None = None, rewire: float = 0.3) -> nx.Graph:
    """A ring of neighbours of whose links a share `rewire` leads elsewhere (Watts, Strogatz).

    `degree` is even; if absent, four, and fewer than five members are all linked.
    """
    import networkx as nx

    if degree is None and count < 5:
        return complete(count, seed)
    return nx.watts_strogatz_graph(count, degree or 4, rewire, seed=seed)


TOPOLOGIES: dict[str, Callable[[int, int], nx.Graph]] = {
    "ring": ring,
    "ring_chords": ring_chords,
    "star": star,
    "complete": complete,
    "grid": grid,
    "random_regular": random_regular,
    "small_world": small_world,
}
"""Every kind by name: (members, seed) to a graph over 0 … members − 1."""
