"""The overlay heals: the survivors stay connected whatever dies, if the graph was connected."""

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.node.exchange.overlay import graph_of, wanted_links


@st.composite
def networks(draw):
    size = draw(st.integers(3, 12))
    names = [f"n{i:02}" for i in range(size)]
    # A random spanning tree and some more edges: always connected.
    edges = [(names[i], names[draw(st.integers(0, i - 1))]) for i in range(1, size)]
    more = st.tuples(st.sampled_from(names), st.sampled_from(names))
    edges += [(a, b) for a, b in draw(st.lists(more, max_size=size)) if a != b]
    dead = draw(st.sets(st.sampled_from(names), max_size=size - 2))
    return names, edges, dead


def links_of_survivors(names, edges, dead):
    graph = graph_of(names, edges)
    healed = nx.Graph()
    survivors = [name for name in names if name not in dead]
    healed.add_nodes_from(survivors)
    for name in survivors:
        healed.add_edges_from((name, other) for other in wanted_links(graph, name, dead))
    return healed


@given(networks())
@settings(max_examples=200, deadline=None)
def test_survivors_of_a_connected_graph_stay_connected(network):
    names, edges, dead = network
    healed = links_of_survivors(names, edges, dead)
    assert set(healed) == set(names) - dead
    assert nx.is_connected(healed)


@given(networks())
@settings(max_examples=100, deadline=None)
def test_both_ends_want_the_same_links_when_they_see_the_same_dead(network):
    names, edges, dead = network
    graph = graph_of(names, edges)
    for name in set(names) - dead:
        for other in wanted_links(graph, name, dead):
            assert name in wanted_links(graph, other, dead)


@given(networks())
@settings(max_examples=50, deadline=None)
def test_without_the_dead_it_is_the_agreed_graph(network):
    names, edges, _ = network
    graph = graph_of(names, edges)
    for name in names:
        assert wanted_links(graph, name, frozenset()) == graph[name]


def test_no_edges_given_means_everyone_with_everyone():
    graph = graph_of(["a", "b", "c"], None)
    assert {name: sorted(around) for name, around in graph.items()} == {
        "a": ["b", "c"],
        "b": ["a", "c"],
        "c": ["a", "b"],
    }


def test_a_star_without_its_hub_becomes_a_ring_with_chords():
    four = links_of_survivors([*"abcdh"], [("h", n) for n in "abcd"], {"h"})
    assert sorted(dict(four.degree).values()) == [3, 3, 3, 3]
    many = links_of_survivors([*"abcdefgxyh"], [("h", n) for n in "abcdefgxy"], {"h"})
    assert set(dict(many.degree).values()) == {4}
    assert nx.node_connectivity(many) >= 3, "two more may go before it heals again"
