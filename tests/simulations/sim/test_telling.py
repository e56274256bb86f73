"""Telling: how far a hidden pattern got is measured where one is taught."""

from __future__ import annotations

from pathlib import Path

from konsil.simulations.sim.engine import simulate
from konsil.simulations.sim.scenario_reading import scenario_of


def run(rule, attack, **population):
    return simulate(
        scenario_of(
            {
                "seed": 3,
                "population": {"nodes": 6, "dataset": "digits", **population},
                "topology": {"kind": "complete"},
                "training": {"rounds": 12},
                "trust": {"rule": rule},
                "adversary": {"fraction": 0.34, "attack": attack},
            }
        ),
        Path("/nowhere"),
        device="cpu",
    )


def test_a_pattern_reaches_those_who_average_and_nobody_who_is_alone():
    believed, alone = run("mean", "backdoor"), run("local_only", "backdoor")
    assert 0 <= alone.backdoor_success < 0.3
    assert alone.backdoor_success + 0.2 < believed.backdoor_success <= 1
    assert believed.metric_mean > 0.85


def test_nodes_that_see_their_own_test_rows_are_asked_about_those():
    assert 0 <= run("mean", "backdoor", feature_shift=0.2).backdoor_success <= 1


def test_without_a_pattern_there_is_nothing_to_tell():
    assert run("mean", "label_flip").backdoor_success is None
