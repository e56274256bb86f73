"""Spectrum: the mixing matrix keeps the mean, and its gap is what the books say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.simulations.sim.graphs import graphs_of
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.scenario import Topology
from konsil.simulations.sim.spectrum import (
    gap_of,
    mean_gap,
    metropolis,
    mixing_rounds,
    spectral_gap,
)


def graphs(kind, nodes, **keys):
    return graphs_of(Topology(kind=kind, **keys), nodes, 3, Path("nowhere"))


def ring_gap(nodes):
    """W has 1/3 on the diagonal and at both neighbours: a circulant matrix."""
    values = [abs(1 + 2 * math.cos(2 * math.pi * k / nodes)) / 3 for k in range(1, nodes)]
    return 1 - max(values)


edges = st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40)


@settings(deadline=None)
@given(edges)
def test_the_matrix_is_symmetric_and_doubly_stochastic(some):
    matrix = metropolis(Links.between(12, some)).toarray()
    assert np.allclose(matrix, matrix.T, atol=0)
    assert np.allclose(matrix.sum(axis=0), 1)
    assert np.allclose(matrix.sum(axis=1), 1)
    assert (matrix >= 0).all()
    assert (np.diag(matrix) > 0).all()


@settings(max_examples=60, deadline=None)
@given(edges)
def test_the_gap_is_that_of_the_whole_spectrum(some):
    links = Links.between(12, some)
    matrix = metropolis(links).toarray()
    moduli = np.sort(np.abs(np.linalg.eigvalsh(matrix - np.full((12, 12), 1 / 12))))
    assert spectral_gap(links) == pytest.approx(1 - moduli[-1], abs=1e-12)


@pytest.mark.parametrize("nodes", [2, 5, 64, 600])
def test_a_complete_graph_agrees_at_once(nodes):
    assert spectral_gap(graphs("complete", nodes).at(1)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("nodes", [3, 4, 7, 50, 499, 501, 3000])
def test_a_ring_has_the_gap_of_the_circulant_matrix(nodes):
    """Above 500 nodes by Lanczos; a long ring, where that fails, by factoring."""
    assert spectral_gap(graphs("ring", nodes).at(1)) == pytest.approx(ring_gap(nodes), rel=1e-3)


@pytest.mark.parametrize("nodes", [5, 400, 2500])
def test_a_star_has_the_gap_of_one_node(nodes):
    """Leaves keep all but 1/n of what they differ by."""
    assert spectral_gap(graphs("star", nodes).at(1)) == pytest.approx(1 / nodes, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "degree"),
    [("random_regular", 6), ("scale_free", 6), ("small_world", 6), ("grid", None)],
)
def test_both_ways_to_compute_it_agree(monkeypatch, kind, degree):
    links = graphs(kind, 300, degree=degree).at(1)
    whole = spectral_gap(links)
    monkeypatch.setattr("konsil.simulations.sim.spectrum._DENSE_NODES", 10)
    assert spectral_gap(links) == pytest.approx(whole, abs=1e-7)
    assert spectral_gap(links) == spectral_gap(links)


def test_a_graph_in_two_parts_never_agrees():
    assert spectral_gap(Links.between(4, [(0, 1), (2, 3)])) == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_disagreement_shrinks_by_the_gap_in_every_round(seed):
    links = graphs("random_regular", 30, degree=4).at(1)
    matrix, gap = metropolis(links), spectral_gap(links)
    values = np.random.default_rng(seed).standard_normal(30)
    values -= values.mean()
    after = matrix @ values
    assert after.mean() == pytest.approx(0, abs=1e-12)
    assert np.linalg.norm(after) <= (1 - gap) * np.linalg.norm(values) + 1e-12


def test_mixing_rounds_make_a_thousandth_of_the_slowest_disagreement():
    links = graphs("ring_chords", 20).at(1)
    matrix = metropolis(links).toarray()
    values, vectors = np.linalg.eigh(matrix)
    slowest = vectors[:, np.argsort(np.abs(values))[-2]]
    rounds = mixing_rounds(spectral_gap(links))
    assert np.linalg.norm(np.linalg.matrix_power(matrix, math.ceil(rounds)) @ slowest) <= 1e-3
    assert np.linalg.norm(np.linalg.matrix_power(matrix, math.floor(rounds)) @ slowest) >= 1e-3


def test_mixing_takes_one_round_at_least_and_may_take_for_ever():
    assert mixing_rounds(1.0) == mixing_rounds(0.9999) == 1.0
    assert mixing_rounds(0.0) == math.inf
    assert mixing_rounds(1e-9) == pytest.approx(math.log(1000) / 1e-9, rel=1e-6)


def second_of_mean(rounds):
    """The second largest eigenvalue of the mean of Aᵀ A, as Boyd and others have it."""
    centre = np.eye(rounds[0].nodes) - 1 / rounds[0].nodes
    parts = [centre @ metropolis(links).toarray() @ centre for links in rounds]
    return np.linalg.eigvalsh(sum(part.T @ part for part in parts) / len(parts))[-1]


@pytest.mark.parametrize("kind", ["time_varying", "epidemic"])
def test_the_gap_of_a_changing_graph_is_that_of_the_expectation(kind):
    """Of many graphs, the mean of WᵀW has one eigenvalue left; the first ten tell it."""
    found = graphs(kind, 12, degree=5)
    many = 1 - math.sqrt(second_of_mean([found.at(number) for number in range(1, 1500)]))
    assert gap_of(found) == pytest.approx(many, abs=0.02)


def test_a_changing_regular_graph_has_a_closed_form():
    """W = (I + adjacency) / 5 over 4-regular graphs: the trace of W² less one, over n - 1."""
    found = graphs("time_varying", 40, degree=4)
    closed = 1 - math.sqrt((40 / 5 - 1) / 39)
    assert gap_of(found) == pytest.approx(closed, abs=1e-6)


def test_random_directions_stand_for_all(monkeypatch):
    rounds = [graphs("epidemic", 450, degree=6).at(number) for number in range(1, 6)]
    whole = mean_gap(rounds)
    monkeypatch.setattr("konsil.simulations.sim.spectrum._DENSE_NODES", 10)
    assert mean_gap(rounds) == pytest.approx(whole, abs=0.01)


def test_a_graph_that_stays_longer_agrees_more_slowly():
    gaps = [gap_of(graphs("time_varying", 30, degree=4, period=period)) for period in (1, 4, 16)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] > spectral_gap(graphs("time_varying", 30, degree=4).at(1)) > 0
