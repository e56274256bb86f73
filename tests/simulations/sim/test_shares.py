"""Shares and draws: every row to one node at most, two patients at least, the seed decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.knowledge import split
from konsil.knowledge.cohort import Cohort
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim import datasets
from konsil.simulations.sim.datasets.dataset import DataSet
from konsil.simulations.sim.draws import DRAWS, draw
from konsil.simulations.sim.holdouts import hold_back
from konsil.simulations.sim.populate import populate
from konsil.simulations.sim.scenario import Population
from konsil.simulations.sim.shares import DEALS, Shares, deal


def population(nodes=8, dataset="digits", **changes):
    return Population(nodes=nodes, dataset=dataset, **changes)


@pytest.fixture(scope="module")
def digits():
    return datasets.read(population(), Path("/nowhere"))


def made_up(seed, rows=120, visits=1, classes=3, sites=0):
    """A data set of which each patient has about `visits` rows."""
    random = np.random.default_rng(seed)
    who = np.sort(random.integers(0, max(rows // visits, 2), rows))
    label_of = random.integers(0, classes, rows)
    cohort = Cohort(
        inputs=random.normal(size=(rows, 2)),
        labels=label_of[who],
        patients=tuple(f"p{number}" for number in who),
        classes=tuple(str(label) for label in range(classes)),
        columns=("a", "b"),
    )
    names = tuple(f"s{number % sites}" for number in who) if sites else ()
    keep, test = split.by_patient(cohort.labels, cohort.patients, 0.2)
    return DataSet(cohort, names, keep, test)


def unevenness(data, shares):
    """Mean distance of the nodes' class shares from those of all."""
    labels = data.rows.labels
    whole = np.bincount(labels[data.train]) / len(data.train)
    tables = [np.bincount(labels[shares.of(i)], minlength=10) for i in range(shares.nodes)]
    return float(np.mean([np.abs(t / t.sum() - whole).sum() for t in tables]))


def test_every_split_of_a_scenario_can_be_dealt_and_drawn():
    assert set(DEALS) == set(DRAWS) == {"iid", "dirichlet", "pathological", "sites"}


@pytest.mark.parametrize("nodes", [2, 16, 64, 500])
@pytest.mark.parametrize("kind", ["iid", "dirichlet", "pathological"])
def test_a_row_is_dealt_once_and_never_from_the_test_rows(digits, kind, nodes):
    each = max(2, 10 // nodes)
    shares = deal(digits, population(nodes, split=kind, classes_each=each, alpha=0.2), 3)
    assert len(shares.row) == len(set(shares.row)) == shares.counts.sum()
    assert set(shares.row) <= set(digits.train)
    assert not set(shares.row) & set(digits.test)
    assert shares.counts.min() >= 2
    assert len(shares.counts) == shares.nodes == nodes
    if kind != "iid":
        assert set(shares.row) == set(digits.train), "all of the data is dealt"


def test_iid_is_the_common_workload(digits):
    shares = deal(digits, population(64), 0)
    assert shares.counts.tolist() == [1437 // 64] * 64
    assert unevenness(digits, shares) < unevenness(
        digits, deal(digits, population(64, split="dirichlet", alpha=0.5), 0)
    )


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "pathological"])
@pytest.mark.parametrize("rows", [None, 12])
def test_the_seed_decides_and_nothing_else(digits, kind, rows):
    same, again, other = (
        (deal if rows is None else draw)(digits, population(split=kind, rows=rows), seed)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(same.row, again.row)
    assert np.array_equal(same.node, again.node)
    assert not np.array_equal(same.row, other.row)


@pytest.mark.parametrize("rows", [None, 60])
def test_a_small_alpha_is_more_uneven_than_a_large_one(digits, rows):
    found = [
        unevenness(
            digits,
            (deal if rows is None else draw)(
                digits, population(24, split="dirichlet", alpha=alpha, rows=rows), 5
            ),
        )
        for alpha in (0.05, 0.5, 5.0, 500.0)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[-1]


def test_drawn_and_dealt_nodes_follow_one_law(digits):
    """With and without replacement, alpha means the same: equal unevenness on the whole."""
    dealt, drawn = (
        np.mean(
            [
                unevenness(digits, how(digits, population(20, split="dirichlet", rows=rows), seed))
                for seed in range(8)
            ]
        )
        for how, rows in ((deal, None), (draw, 71))
    )
    assert dealt == pytest.approx(drawn, rel=0.1)


@pytest.mark.parametrize("rows", [None, 40])
@pytest.mark.parametrize("each", [1, 2, 7])
def test_a_pathological_node_has_that_many_classes(digits, each, rows):
    how = deal if rows is None else draw
    shares = how(digits, population(30, split="pathological", classes_each=each, rows=rows), 2)
    found = [len(set(digits.rows.labels[shares.of(i)])) for i in range(30)]
    assert max(found) == each
    assert set(digits.rows.labels[shares.row]) == set(range(10))


@pytest.mark.parametrize("kind", ["iid", "dirichlet"])
def test_size_skew_makes_later_nodes_smaller(digits, kind):
    shares = deal(digits, population(20, split=kind, size_skew=1.0, alpha=50.0), 1)
    assert shares.counts[0] > 3 * shares.counts[9] > 3
    assert shares.counts.min() >= 2
    assert len(set(shares.row)) == len(shares.row)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 8),
    st.integers(1, 4),
    st.sampled_from(["iid", "dirichlet"]),
    st.floats(0.02, 0.95),
)
def test_a_patient_is_at_one_node_and_on_one_side(seed, nodes, visits, kind, fraction):
    data = made_up(seed, visits=visits)
    shares = deal(data, population(nodes, split=kind, alpha=0.1), seed)
    train, held = hold_back(data, shares, fraction, seed)
    sides = [
        {data.rows.patients[row] for row in side.of(node)}
        for side in (train, held)
        for node in range(nodes)
    ]
    assert all(sides), "every node trains and judges"
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert not set().union(*sides) & {data.rows.patients[row] for row in data.test}
    assert np.array_equal(np.sort([*train.row, *held.row]), np.sort(shares.row))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 30),
    st.integers(1, 3),
    st.sampled_from(["iid", "dirichlet", "pathological"]),
)
def test_drawn_rows_of_one_patient_are_on_one_side(seed, rows, visits, kind):
    data = made_up(seed, visits=visits)
    shares = draw(data, population(15, split=kind, rows=rows, alpha=0.3), seed)
    train, held = hold_back(data, shares, 0.3, seed)
    assert (train.counts + held.counts).tolist() == [rows] * 15
    assert set(shares.row) <= set(data.train)
    for node in range(15):
        sides = [{data.rows.patients[row] for row in side.of(node)} for side in (train, held)]
        assert all(sides)
        assert not sides[0] & sides[1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.02, 0.95))
def test_the_holdout_is_as_large_as_by_konsil_s_own_rule(seed, visits, fraction):
    data = made_up(seed, visits=visits)
    shares = deal(data, population(5), seed)
    _, held = hold_back(data, shares, fraction, seed)
    for node in range(5):
        rows = shares.of(node)
        patients = [data.rows.patients[row] for row in rows]
        _, places = split.by_patient(data.rows.labels[rows], patients, fraction)
        expected = {patients[place] for place in places}
        assert len({data.rows.patients[row] for row in held.of(node)}) == len(expected)


def test_sites_are_nodes(digits):
    data = made_up(3, sites=4)
    for shares in (
        deal(data, population(4, split="sites"), 0),
        draw(data, population(4, split="sites", rows=9), 0),
    ):
        for node in range(4):
            assert {data.sites[row] for row in shares.of(node)} == {f"s{node}"}
    assert set(deal(data, population(4, split="sites"), 0).row) == set(data.train)
    with pytest.raises(ConfigError, match=r"nodes = 5: .* gives 4 nodes") as caught:
        deal(data, population(5, split="sites"), 0)
    assert "s0, s1, s2, s3" in caught.value.hint
    with pytest.raises(ConfigError, match="names no hospitals"):
        deal(digits, population(4, split="sites"), 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"nodes": 719}, "nodes = 719: 1437 training patients are too few"),
        ({"split": "pathological", "classes_each": 11}, "classes_each = 11: digits has 10"),
        ({"split": "pathological", "nodes": 4}, "4 nodes of 2 classes each cannot hold 10"),
        ({"split": "pathological", "size_skew": 1.0}, "size_skew cannot go with"),
        ({"split": "pathological", "nodes": 718, "classes_each": 1}, "node .* needs 2"),
        ({"nodes": 700, "size_skew": 3.0}, "size_skew = 3 leaves a node without"),
        ({"rows": 1}, "rows = 1: a node needs 2 rows"),
        ({"rows": 5, "size_skew": 1.0}, "size_skew and rows contradict"),
        ({"rows": 5, "split": "pathological", "classes_each": 11}, "classes_each = 11"),
    ],
)
def test_what_cannot_be_dealt_is_named_by_its_key(digits, changes, said):
    wanted = population(**changes)
    with pytest.raises(ConfigError, match=said) as caught:
        (deal if wanted.rows is None else draw)(digits, wanted, 0)
    assert caught.value.message.startswith("[population]")
    assert caught.value.hint


def test_a_pool_of_one_patient_cannot_be_drawn_from():
    data = made_up(0, rows=40, visits=20, classes=2)
    one = DataSet(data.rows, (), data.train[:1], data.test)
    with pytest.raises(ConfigError, match="can draw no second patient"):
        draw(one, population(3, rows=4), 0)


def test_padding_repeats_a_node_s_own_rows():
    shares = Shares(2, np.array([0, 0, 0, 1]), np.array([5, 6, 7, 9]))
    assert shares.padded().tolist() == [[5, 6, 7], [9, 9, 9]]
    assert shares.counts.tolist() == [3, 1]


@pytest.mark.parametrize("rows", [None, 40])
def test_an_even_split_has_the_class_frequencies_of_the_data(rows):
    data = datasets.read(population(dataset="breast_cancer"), Path("/nowhere"))
    wanted = population(10, "breast_cancer", split="dirichlet", alpha=1e4, rows=rows)
    shares = (deal if rows is None else draw)(data, wanted, 1)
    whole = data.rows.labels[data.train].mean()
    assert data.rows.labels[shares.row].mean() == pytest.approx(whole, abs=0.06)
    assert abs(whole - 0.5) > 0.1


def test_a_patient_of_two_hospitals_is_told_by_name(tmp_path):
    rows = "".join(f"p{i},{site},{i % 7},{i % 2}\n" for i in range(20) for site in "ab")
    (tmp_path / "two.csv").write_text("pid,hosp,x,y\n" + rows)
    asked = population(
        nodes=2, dataset="two.csv", label="y", patient="pid", site="hosp", split="sites"
    )
    with pytest.raises(ConfigError, match="at several hospitals, p"):
        populate(asked, 0, tmp_path)


def test_a_data_set_of_one_class_is_told(tmp_path):
    rows = "".join(f"{i % 7},1\n" for i in range(40))
    (tmp_path / "one.csv").write_text("x,y\n" + rows)
    with pytest.raises(ConfigError, match="one class"):
        populate(population(nodes=2, dataset="one.csv", label="y"), 0, tmp_path)
