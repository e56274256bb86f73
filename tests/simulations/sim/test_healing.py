"""Healing: the simulator's survivors want the links that the daemons' overlay wants."""

from __future__ import annotations

import networkx as nx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.node.exchange.overlay import graph_of, wanted_links
from konsil.simulations.sim.healing import around_the_absent
from konsil.simulations.sim.links import Links

NODES = 14
WHOLE = np.zeros(NODES, dtype=np.int64)
edges = st.sets(st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=40)
members = st.sets(st.integers(0, NODES - 1))


def healed(some, gone, side=WHOLE):
    links = Links.between(NODES, some)
    present = ~np.isin(np.arange(NODES), list(gone))
    kept = links.keep(present[links.receiver] & present[links.sender])
    added = Links.of(NODES, *around_the_absent(links, present, side))
    return {
        pair
        for links in (kept, added)
        for pair in zip(links.receiver.tolist(), links.sender.tolist(), strict=True)
    }


@settings(max_examples=150, deadline=None)
@given(edges, members)
def test_survivors_link_as_the_daemons_do(some, gone):
    names = [chr(ord("a") + number) for number in range(NODES)]
    graph = graph_of(names, [(names[one], names[other]) for one, other in some if one != other])
    dead = {names[number] for number in gone}
    wanted = {
        (number, names.index(other))
        for number in range(NODES)
        if number not in gone
        for other in wanted_links(graph, names[number], dead)
    }
    assert healed(some, gone) == wanted


@settings(deadline=None)
@given(st.integers(0, 10_000), members)
def test_survivors_of_a_connected_graph_stay_connected(seed, gone):
    graph = nx.random_labeled_tree(NODES, seed=seed)
    survivors = nx.Graph(healed(set(graph.edges), gone))
    survivors.add_nodes_from(set(range(NODES)) - gone)
    assert len(gone) == NODES or nx.is_connected(survivors)


@settings(deadline=None)
@given(edges, members, members)
def test_no_added_link_crosses_the_cut(some, gone, left):
    side = np.isin(np.arange(NODES), list(left)).astype(np.int64)
    links = Links.between(NODES, some)
    present = ~np.isin(np.arange(NODES), list(gone))
    receiver, sender = around_the_absent(links, present, side)
    assert (side[receiver] == side[sender]).all()
    assert present[receiver].all()
    assert present[sender].all()
