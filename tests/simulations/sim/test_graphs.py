"""Graphs: connected, of the degree that was asked for, deterministic; or refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.errors import ConfigError
from konsil.simulations import topology as shared
from konsil.simulations.sim import graph_files
from konsil.simulations.sim.graph_kinds import KINDS
from konsil.simulations.sim.graphs import CHANGING, graphs_of
from konsil.simulations.sim.scenario import Topology

NOWHERE = Path("nowhere")


def graphs(kind, nodes, seed=1, folder=NOWHERE, **keys):
    return graphs_of(Topology(kind=kind, **keys), nodes, seed, folder)


def pairs(links):
    return list(zip(links.receiver.tolist(), links.sender.tolist(), strict=True))


def undirected(links):
    graph = nx.Graph(pairs(links))
    graph.add_nodes_from(range(links.nodes))
    return graph


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("nodes", [2, 3, 5, 8, 25])
def test_a_fixed_graph_is_connected_goes_both_ways_and_stays(kind, nodes):
    found = graphs(kind, nodes, degree=None if nodes < 25 else 6)
    links = found.at(1)
    assert pairs(links) == sorted(set(pairs(links)))
    assert all(one != other and (other, one) in set(pairs(links)) for one, other in pairs(links))
    assert nx.is_connected(undirected(links))
    assert found.at(7) is links
    assert pairs(graphs(kind, nodes, degree=None if nodes < 25 else 6).at(1)) == pairs(links)


@pytest.mark.parametrize("kind", sorted(shared.TOPOLOGIES))
def test_a_graph_is_the_one_that_the_demo_builds(kind):
    names = [f"h{number:02}" for number in range(12)]
    expected = shared.edges(kind, names, seed=5)
    links = graphs(kind, 12, seed=5).at(1)
    assert [(names[a], names[b]) for a, b in pairs(links) if a < b] == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 40), st.integers(2, 9), st.integers(0, 2**63 - 1))
def test_a_regular_degree_is_exact(nodes, degree, seed):
    if degree >= nodes or degree * nodes % 2 or degree == 2:
        degree = nodes - 1
    for kind in ("random_regular", "time_varying"):
        found = graphs(kind, nodes, seed, degree=degree)
        for number in (1, 2):
            links = found.at(number)
            assert set(links.degrees.tolist()) == {degree}
            assert nx.is_connected(undirected(links))


@pytest.mark.parametrize(("kind", "mean"), [("small_world", 6), ("scale_free", 6)])
def test_mean_degrees_follow_the_key(kind, mean):
    links = graphs(kind, 400, degree=6).at(1)
    assert links.degrees.mean() == pytest.approx(mean, abs=0.1)


def test_erdos_renyi_has_the_mean_degree():
    links = graphs("erdos_renyi", 400, degree=12).at(1)
    assert links.degrees.mean() == pytest.approx(12, abs=5 * np.sqrt(24 / 400))


def test_rewiring_nothing_leaves_the_ring_of_neighbours():
    links = graphs("small_world", 20, degree=4, rewire=0.0).at(1)
    near = {(a, b) for a in range(20) for b in range(20) if (a - b) % 20 in (1, 2, 18, 19)}
    assert set(pairs(links)) == near


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.data(), st.integers(1, 1000))
def test_epidemic_gives_everybody_so_many_different_senders(nodes, data, number):
    degree = data.draw(st.integers(1, nodes - 1))
    found = graphs("epidemic", nodes, degree=degree)
    links = found.at(number)
    assert pairs(links) == sorted(set(pairs(links)))
    assert (links.degrees == degree).all()
    assert (links.receiver != links.sender).all()
    assert links.sender.min() >= 0
    assert links.sender.max() < nodes
    assert pairs(graphs("epidemic", nodes, degree=degree).at(number)) == pairs(links)


def test_epidemic_draws_every_set_of_senders_equally_often():
    found = graphs("epidemic", 5, degree=2)
    seen: dict[tuple[int, ...], int] = {}
    rounds = 3000
    for number in range(1, rounds + 1):
        links = found.at(number)
        drawn = tuple(links.sender[links.receiver == 2].tolist())
        seen[drawn] = seen.get(drawn, 0) + 1
    assert set(seen) == {(0, 1), (0, 3), (0, 4), (1, 3), (1, 4), (3, 4)}
    spread = np.sqrt(rounds / 6)
    assert all(abs(count - rounds / 6) < 5 * spread for count in seen.values())


def test_epidemic_hears_about_the_logarithm_if_nothing_is_said():
    assert set(graphs("epidemic", 100).at(1).degrees.tolist()) == {7}


def test_time_varying_changes_after_its_period_and_in_any_order():
    found = graphs("time_varying", 20, degree=4, period=3)
    first, later = found.at(1), found.at(4)
    assert found.lasts == 3
    assert found.at(4) is found.at(6)
    assert pairs(found.at(3)) == pairs(first) != pairs(later)
    assert pairs(found.at(4)) == pairs(later)


def test_time_varying_links_every_pair_equally_often():
    found = graphs("time_varying", 6, degree=3)
    rounds = 2000
    seen = np.zeros((6, 6))
    for number in range(1, rounds + 1):
        links = found.at(number)
        seen[links.receiver, links.sender] += 1
    apart = ~np.eye(6, dtype=bool)
    assert abs(seen[apart] / rounds - 3 / 5).max() < 0.06


@pytest.mark.parametrize("kind", ["erdos_renyi", "small_world", "random_regular", *CHANGING])
def test_random_kinds_follow_the_seed(kind):
    drawn = {tuple(pairs(graphs(kind, 24, seed, degree=6).at(1))) for seed in range(4)}
    assert len(drawn) == 4


EDGES = "# a ring of four\n0 1\n1,2 0.5\n\n2 3\n3 0  # closes it\n"


def test_an_edge_list_is_read_in_the_order_of_its_numbers(tmp_path):
    (tmp_path / "ring.edgelist").write_text(EDGES)
    links = graphs("ring.edgelist", 4, folder=tmp_path).at(1)
    assert pairs(links) == pairs(graphs("ring", 4).at(1))
    (tmp_path / "tens.edgelist").write_text("30 4\n4 200\n")
    assert pairs(graphs("tens.edgelist", 3, folder=tmp_path).at(1)) == [
        (0, 1), (0, 2), (1, 0), (2, 0),
    ]  # fmt: skip


def test_names_in_a_file_are_numbered_by_the_alphabet_as_hospitals_are(tmp_path):
    graph = nx.Graph()
    graph.add_nodes_from(["Ulm", "Graz", "Bern"])
    graph.add_edges_from([("Bern", "Ulm"), ("Bern", "Graz")])
    nx.write_graphml(graph, tmp_path / "three.graphml")
    links = graphs("three.graphml", 3, folder=tmp_path).at(1)
    assert pairs(links) == [(0, 1), (0, 2), (1, 0), (2, 0)]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "ring.edgelist").write_text("\ufeff0 1\n1 2\n2 3\n3 0\n")
    links = graphs("ring.edgelist", 4, folder=tmp_path).at(1)
    assert pairs(links) == pairs(graphs("ring", 4).at(1))


def test_names_may_have_any_number_of_digits(tmp_path):
    (tmp_path / "long.edgelist").write_text(f"{'9' * 5000} 007\n007 7\n7 0\n0 10\n")
    links = graphs("long.edgelist", 5, folder=tmp_path).at(1)
    # In order: 0, 7, 007, 10, 999…
    assert pairs(links) == [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (2, 4), (3, 0), (4, 2)]


def test_a_graph_in_a_pipe_a_folder_or_a_huge_file_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.edgelist")
    (tmp_path / "folder.graphml").mkdir()
    (tmp_path / "huge.edgelist").write_text("0 1\n" * 10)
    monkeypatch.setattr(graph_files, "MOST_BYTES", 39)
    for name, said in (
        ("pipe.edgelist", "no plain file"), ("folder.graphml", "no plain file"),
        ("huge.edgelist", "larger than"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"cannot be read: this is {said}") as caught:
            graphs(name, 2, folder=tmp_path)
        assert caught.value.hint


def directed_graphml():
    return "".join(nx.generate_graphml(nx.DiGraph([("a", "b")]))).encode()


@pytest.mark.parametrize(
    ("name", "raw", "nodes", "words"),
    [
        ("no.edgelist", None, 4, "there is no such file"),
        ("few.edgelist", b"0 1\n", 4, r"has 2 nodes, but \[population\] nodes = 4"),
        ("three.edgelist", b"St Gallen Bern\n", 2, "line 1 has 3 names"),
        ("self.edgelist", b"0 1\n1 1\n", 2, "node `1` is linked with itself"),
        ("two.edgelist", b"0 1\n1 2\n3 4\n", 5, "falls into 2 parts, of 3, 2 nodes"),
        ("half.edgelist", b"0 1\n\n7\n", 3, "line 3 has one name"),
        ("bytes.edgelist", b"\xff\xfe", 3, "not text in UTF-8"),
        ("torn.graphml", b"<graphml>\n<node", 3, "this is not GraphML"),
        ("none.graphml", b"<other/>", 3, "this is not GraphML"),
        ("way.graphml", directed_graphml(), 2, "is directed"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path, name, raw, nodes, words):
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ConfigError, match=words) as caught:
        graphs(name, nodes, folder=tmp_path)
    said = caught.value.diagnostics()
    assert said.startswith(f'[topology] kind = "{name}"')
    assert "\n" not in said


def test_many_parts_are_told_in_short(tmp_path):
    lines = "".join(f"{2 * part} {2 * part + 1}\n" for part in range(9))
    (tmp_path / "nine.edgelist").write_text(lines)
    with pytest.raises(ConfigError, match=r"into 9 parts, of 2, 2, 2, 2, 2, … nodes"):
        graphs("nine.edgelist", 18, folder=tmp_path)


@pytest.mark.parametrize(
    ("kind", "nodes", "degree", "words"),
    [
        ("moebius", 10, None, r'\[topology\] kind = "moebius"'),
        ("random_regular", 20, 20, r"\[topology\] degree = 20 needs at least 21 nodes"),
        ("erdos_renyi", 20, 25, r"\[topology\] degree = 25 needs at least 26 nodes"),
        ("epidemic", 20, 20, r"\[topology\] degree = 20 needs at least 21 nodes"),
        ("time_varying", 5, 3, r"\[topology\] degree = 3 over 5 nodes"),
        ("random_regular", 6, 1, r"\[topology\] degree = 1 makes pairs"),
        ("small_world", 20, 3, r"\[topology\] degree = 3 is odd"),
        ("scale_free", 20, 1, r"\[topology\] degree = 1 is too few"),
        ("erdos_renyi", 10_000, 4, r"\[topology\] degree = 4 leaves about 183 of 10000"),
        ("erdos_renyi", 40, 1, "came out unconnected 50 times"),
        ("complete", 10_000, None, "makes 99990000 links"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(kind, nodes, degree, words):
    with pytest.raises(ConfigError, match=words) as caught:
        graphs(kind, nodes, degree=degree)
    assert "\n" not in caught.value.diagnostics()
    assert caught.value.exit_code == 5


def test_ten_thousand_nodes_are_linked():
    links = graphs("epidemic", 10_000).at(1)
    assert len(links) == 140_000
    assert (links.degrees == 14).all()
