"""Results: the JSON contract, and means and spreads over seeds."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from konsil.simulations.sim.faults import FaultPlan
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.result import (
    COUNTED_AS,
    SPREAD,
    Point,
    Result,
    as_json,
    combine,
    faults_missed,
    unmeasured,
)
from konsil.simulations.sim.scenario import Faults, Population, Scenario, Topology

CONTRACT = [
    "nodes", "rounds", "topology", "dataset", "rule", "metric", "metric_mean", "metric_worst",
    "metric_local_mean", "metric_local_worst", "metric_pooled", "attacker_weight_mean",
    "honest_weight_mean", "backdoor_success", "bytes_per_node_round", "faults", "spectral_gap",
    "wall_s", "setup_s", "eval_s", "cpu_s", "node_rounds_per_cpu_s", "peak_rss_mb", "history",
]  # fmt: skip


def make_result(seed=1, mean=0.9, **changes) -> Result:
    """A result that could have been."""
    facts = {
        "nodes": 20, "rounds": 4, "topology": "ring", "dataset": "digits", "rule": "evidence",
        "metric": "accuracy", "metric_mean": mean, "metric_worst": mean - 0.1,
        "metric_local_mean": 0.7, "metric_local_worst": 0.6, "metric_pooled": 0.95,
        "attacker_weight_mean": 0.1, "honest_weight_mean": 0.9, "bytes_per_node_round": 9640.0,
        "faults": {"drop": 3}, "spectral_gap": 0.05, "wall_s": 2.0, "setup_s": 1.0, "eval_s": 0.1,
        "cpu_s": 0.5, "node_rounds_per_cpu_s": 160.0, "peak_rss_mb": 300.0, "seed": seed,
        "history": (
            Point(round=2, metric_mean=mean / 2, metric_worst=0.3, attacker_weight_mean=None),
            Point(round=4, metric_mean=mean, metric_worst=0.5, attacker_weight_mean=0.1),
        ),
    }  # fmt: skip
    return Result(**(facts | changes))


def test_the_data_has_the_fields_of_the_contract_and_the_seed():
    data = as_json(make_result())
    assert list(data) == [*CONTRACT, "seed"]
    assert data["history"][0] == {
        "round": 2, "metric_mean": 0.45, "metric_worst": 0.3, "attacker_weight_mean": None
    }  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null(value):
    point = Point(round=1, metric_mean=value, metric_worst=value, attacker_weight_mean=value)
    data = as_json(make_result(mean=value, history=(point,)))
    json.dumps(data, allow_nan=False)
    assert data["metric_mean"] is None
    assert data["history"] == [
        {"round": 1, "metric_mean": None, "metric_worst": None, "attacker_weight_mean": None}
    ]
    several = combine([make_result(mean=value), make_result(seed=2, mean=0.8)])
    json.dumps(several, allow_nan=False)
    assert several["metric_mean"] == 0.8


def test_a_single_run_stays_as_it_is():
    assert combine([make_result()]) == as_json(make_result())


def test_several_seeds_give_means_and_sample_deviations():
    data = combine([make_result(seed, mean) for seed, mean in ((5, 0.8), (6, 0.9), (7, 1.0))])
    assert list(data) == [*CONTRACT, "seed", "sd", "seeds"]
    assert data["metric_mean"] == pytest.approx(0.9)
    assert data["sd"]["metric_mean"] == pytest.approx(0.1)
    assert data["sd"]["wall_s"] == 0.0
    assert tuple(data["sd"]) == SPREAD
    assert [point["round"] for point in data["history"]] == [2, 4]
    assert data["history"][0]["metric_mean"] == pytest.approx(0.45)
    assert data["history"][0]["attacker_weight_mean"] is None
    assert (data["seed"], data["seeds"]) == (5, [5, 6, 7])
    assert (data["nodes"], data["rounds"], data["rule"]) == (20, 4, "evidence")


def test_the_spread_names_every_scalar_that_is_measured():
    numbers = {one.name for one in msgspec.structs.fields(Result) if "float" in str(one.type)}
    assert set(SPREAD) == numbers


def test_a_value_that_some_seeds_lack_is_the_mean_of_the_others():
    lacking = [make_result(1, metric_pooled=None), make_result(2, metric_pooled=0.9)]
    data = combine(lacking)
    assert (data["metric_pooled"], data["sd"]["metric_pooled"]) == (0.9, None)
    data = combine(lacking[:1] * 2)
    assert (data["metric_pooled"], data["sd"]["metric_pooled"]) == (None, None)


def test_counts_of_faults_are_means_too():
    data = combine([make_result(1, faults={"drop": 3}), make_result(2, faults={"drop": 0})])
    assert data["faults"] == {"drop": 1.5}


def test_faults_are_counted_under_the_names_by_which_they_are_looked_up():
    every = Faults(
        churn=0.1, partition=((1, 2),), drop=0.1, delay_rounds=1, slow=0.1, late=0.1, heal=True
    )
    assert every.requested == Faults.__struct_fields__
    links = Links.between(9, [(node, node + 1) for node in range(8)])
    counts = FaultPlan.of(every, 9, 4, (), 0).step(1, links).counts
    late = Scenario(
        population=Population(nodes=9, dataset="digits"),
        topology=Topology(kind="ring"),
        faults=Faults(delay_rounds=1),
    )
    assert faults_missed(late, make_result(faults={"delay": 0})) == ("delay_rounds",)
    assert faults_missed(late, make_result(faults={"delay": 1})) == ()
    assert {COUNTED_AS.get(key, key) for key in every.requested} <= set(counts)


def test_a_fault_that_was_asked_for_and_not_counted_is_missed():
    scenario = Scenario(
        population=Population(nodes=20, dataset="digits"),
        topology=Topology(kind="ring"),
        faults=Faults(drop=0.1, churn=0.1),
    )
    assert faults_missed(scenario, make_result(faults={"drop": 1, "churn": 2})) == ()
    assert faults_missed(scenario, make_result(faults={"drop": 0, "churn": 2})) == ("drop",)
    assert faults_missed(scenario, make_result(faults={"late": 0})) == ("churn", "drop")


@pytest.mark.parametrize(("mean", "nothing"), [(None, True), (math.nan, True), (0.0, False)])
def test_a_run_without_a_metric_has_measured_nothing(mean, nothing):
    assert unmeasured(msgspec.structs.replace(make_result(), metric_mean=mean)) is nothing
