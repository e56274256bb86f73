"""Topologies: connected, deterministic, bounded, and refused in one line."""

from __future__ import annotations

import networkx as nx
import pytest

from konsil.protocol.errors import ConfigError
from konsil.simulations import topology

NAMES = [f"h{index}" for index in range(12)]


@pytest.mark.parametrize("kind", sorted(topology.TOPOLOGIES))
@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 12])
def test_every_kind_is_connected_simple_and_deterministic(kind, count):
    names = NAMES[:count]
    links = topology.edges(kind, names, seed=3)
    assert links == topology.edges(kind, names, seed=3)
    assert len(set(map(frozenset, links))) == len(links)
    assert all(a != b and names.index(a) < names.index(b) for a, b in links)
    graph = nx.Graph(links)
    assert set(graph) == set(names)
    assert nx.is_connected(graph)


@pytest.mark.parametrize("count", range(4, 13))
def test_ring_chords_gives_everybody_three_links_and_nobody_five(count):
    names = NAMES[:count]
    links = topology.edges("ring_chords", names)
    assert len(links) == count + (count + 1) // 2
    assert sorted(topology.degrees(names, links).values()) == [3] * (count - count % 2) + [4] * (
        count % 2
    )


def test_star_puts_the_hub_in_the_middle_and_hub_of_finds_it():
    links = topology.edges("star", NAMES[:5], hub="h3")
    assert topology.hub_of(NAMES[:5], links) == "h3"
    assert topology.degrees(NAMES[:5], links) == {"h0": 1, "h1": 1, "h2": 1, "h3": 4, "h4": 1}
    assert topology.hub_of(NAMES[:5], topology.edges("star", NAMES[:5])) == "h0"


def test_random_kinds_follow_the_seed():
    drawn = {tuple(topology.edges("random_regular", NAMES, seed=seed)) for seed in range(4)}
    assert len(drawn) > 1
    links = topology.edges("random_regular", NAMES, seed=0)
    assert set(topology.degrees(NAMES, links).values()) == {4}


@pytest.mark.parametrize(
    ("kind", "names", "hub", "words"),
    [
        ("moebius", ["a", "b"], None, "moebius"),
        ("ring", ["a"], None, "two or more"),
        ("ring", ["a", "a"], None, "own name"),
        ("star", ["a", "b"], "c", "`c`"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(kind, names, hub, words):
    with pytest.raises(ConfigError, match=words) as caught:
        topology.edges(kind, names, hub=hub)
    assert "\n" not in caught.value.diagnostics()


def test_an_unconnected_draw_is_refused(monkeypatch):
    monkeypatch.setitem(topology.TOPOLOGIES, "split", lambda count, _seed: nx.empty_graph(count))
    with pytest.raises(ConfigError, match="unconnected"):
        topology.edges("split", ["a", "b"])
