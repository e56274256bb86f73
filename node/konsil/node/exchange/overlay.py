"""Whom to link with: the agreed graph, healed around members that are gone.

Every member holds the same graph (`overlay.edges`, or everyone with everyone). When members
die, the survivors around each dead component link up as a ring, in the order of their names,
and each with the one across. Any path that ran through the component can then run along that
ring, so the graph of the survivors is connected whenever the agreed graph was; no member has
to lead or to vote. The chords keep it connected when one more goes, and spare a survivor the
company of only two, of whom one may be hostile.

A view may be wrong: a boundary member can be dead as well. It is then found out by dialling
it, joins `dead`, and the component grows; so the views of survivors converge.
Pure: what is alive, and when, is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

Graph = Mapping[str, frozenset[str]]


def graph_of(names: Collection[str], edges: Iterable[tuple[str, str]] | None) -> Graph:
    """The agreed graph as neighbours by name; `None` means the complete graph.

    >>> sorted(graph_of(["a", "b", "c"], [("a", "b")])["a"])
    ['b']
    """
    if edges is None:
        return {name: frozenset(names) - {name} for name in names}
    around: dict[str, set[str]] = {name: set() for name in names}
    for left, right in edges:
        around[left].add(right)
        around[right].add(left)
    return {name: frozenset(neighbours) for name, neighbours in around.items()}


def wanted_links(graph: Graph, me: str, dead: Collection[str]) -> frozenset[str]:
    """The members that `me` should be linked with, given the `dead`.

    >>> star = graph_of("habc", [("h", "a"), ("h", "b"), ("h", "c")])
    >>> sorted(wanted_links(star, "a", dead={"h"}))
    ['b', 'c']
    """
    gone = frozenset(dead) - {me}
    wanted = set(graph[me] - gone)
    for component in _dead_components(graph, graph[me] & gone, gone):
        boundary = sorted(frozenset().union(*(graph[name] for name in component)) - gone)
        place = boundary.index(me)
        across = len(boundary) // 2
        for step in (1, -1, across, -across):
            wanted.add(boundary[(place + step) % len(boundary)])
    return frozenset(wanted) - {me}


def _dead_components(
    graph: Graph, seeds: Iterable[str], gone: frozenset[str]
) -> list[frozenset[str]]:
    components: list[frozenset[str]] = []
    for seed in sorted(seeds):
        if any(seed in component for component in components):
            continue
        reached, frontier = {seed}, [seed]
        while frontier:
            fresh = (graph[frontier.pop()] & gone) - reached
            reached |= fresh
            frontier.extend(fresh)
        components.append(frozenset(reached))
    return components
