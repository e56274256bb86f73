"""Seeds and sweeps: which scenarios a command line asks for."""

from __future__ import annotations

import msgspec
import pytest

from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.sim import seeds
from konsil.simulations.sim.scenario import MAX_SEED, Population, Scenario, Topology, Training
from konsil.simulations.sim.scenario_reading import scenario_of

SCENARIO = Scenario(
    seed=5,
    population=Population(nodes=20, dataset="digits", rows=30),
    topology=Topology(kind="random_regular"),
    training=Training(rounds=10),
)


def test_seeds_follow_one_another():
    found = seeds.under_seeds(SCENARIO, 3)
    assert [one.seed for one in found] == [5, 6, 7]
    assert {msgspec.structs.replace(one, seed=5) for one in found} == {SCENARIO}


@pytest.mark.parametrize("count", [0, -1, seeds.MOST_RUNS + 1, MAX_SEED, 10**30])
def test_there_is_one_seed_at_least_and_a_sensible_number_at_most(count):
    with pytest.raises(UsageError, match=f"--seeds {count} is not between 1 and 10000") as caught:
        seeds.under_seeds(SCENARIO, count)
    assert "how many" in caught.value.hint


def test_there_is_no_seed_beyond_the_last():
    last = msgspec.structs.replace(SCENARIO, seed=MAX_SEED)
    assert seeds.under_seeds(last, 1) == [last]
    with pytest.raises(UsageError, match="no such seeds"):
        seeds.under_seeds(last, 2)


def test_so_many_combinations_are_refused_before_they_are_made():
    hundred = ",".join(map(str, range(1, 101)))
    assert len(seeds.variants(SCENARIO, [f"seed={hundred}"])) == 100
    sweeps = [f"{key}={hundred}" for key in ("seed", "training.rounds", "training.batch")]
    with pytest.raises(UsageError, match="more than 10000 combinations") as caught:
        seeds.variants(SCENARIO, sweeps)
    assert caught.value.hint


def test_long_words_are_cut_where_they_are_repeated():
    for words in ("x" * 10**5, "x" * 10**5 + "=1", "trust.rule=," + "x" * 10**5):
        with pytest.raises(UsageError) as caught:
            seeds.parse_sweep(words)
        assert len(caught.value.message) < 100


@pytest.mark.parametrize(
    ("words", "key", "values"),
    [
        ("adversary.fraction=0.1,0.3", "adversary.fraction", [0.1, 0.3]),
        ("trust.rule=mean,evidence", "trust.rule", ["mean", "evidence"]),
        ('trust.rule="mean", evidence', "trust.rule", ["mean", "evidence"]),
        ("seed=7", "seed", [7]),
        ("ledger.enabled=true,false", "ledger.enabled", [True, False]),
        (
            "population.model=mlp:64-32-10,logistic",
            "population.model",
            ["mlp:64-32-10", "logistic"],
        ),
        ('adversary.attack=["ipm","alie"],ipm', "adversary.attack", [["ipm", "alie"], "ipm"]),
        (
            "faults.partition=[[1,2]],[[3,4],[6,6]]",
            "faults.partition",
            [[[1, 2]], [[3, 4], [6, 6]]],
        ),
        ("population.dataset=a=b.csv", "population.dataset", ["a=b.csv"]),
    ],
)
def test_values_are_those_of_toml_or_texts(words, key, values):
    assert seeds.parse_sweep(words) == (key, values)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("adversary.fraction", "--sweep adversary.fraction is no key=a,b,c"),
        ("adversary.frction=1", "--sweep adversary.frction: there is no such key"),
        ("fraction=1", "--sweep fraction: there is no such key"),
        ("adversary=1", "--sweep adversary: there is no such key"),
        ("=1", "--sweep : there is no such key"),
        (".seed=1", "--sweep .seed: there is no such key"),
        ("adversary.attack.x=1", "--sweep adversary.attack.x: there is no such key"),
        ("trust.rule=", "--sweep trust.rule=: a value is missing"),
        ("trust.rule=a,,b", "--sweep trust.rule=a,,b: a value is missing"),
        ("trust.rule=a,", "--sweep trust.rule=a,: a value is missing"),
    ],
)
def test_a_sweep_that_names_nothing_is_refused(words, said):
    with pytest.raises(UsageError) as caught:
        seeds.parse_sweep(words)
    assert caught.value.message == said
    assert caught.value.hint


def test_the_known_keys_are_named():
    with pytest.raises(UsageError) as caught:
        seeds.parse_sweep("trust.rle=mean")
    assert caught.value.hint == "keys of [trust] are rule"


def test_no_sweep_is_the_scenario_itself():
    (one,) = seeds.variants(SCENARIO, [])
    assert (one.settings, one.scenario) == ({}, SCENARIO)


def test_several_sweeps_give_every_combination_the_last_turning_fastest():
    found = seeds.variants(SCENARIO, ["trust.rule=mean,median", "training.rounds=1,2,3"])
    assert [tuple(one.settings.values()) for one in found] == [
        ("mean", 1), ("mean", 2), ("mean", 3), ("median", 1), ("median", 2), ("median", 3)
    ]  # fmt: skip
    for one in found:
        assert one.scenario.trust.rule == one.settings["trust.rule"]
        assert one.scenario.training.rounds == one.settings["training.rounds"]
        assert one.scenario.population == SCENARIO.population
        assert one.scenario.seed == 5


def test_what_stands_above_the_sections_is_swept_too():
    assert [one.scenario.seed for one in seeds.variants(SCENARIO, ["seed=3,9"])] == [3, 9]


def test_a_key_is_swept_once():
    with pytest.raises(UsageError, match="given twice"):
        seeds.variants(SCENARIO, ["training.lr=1", "training.lr=2"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("training.lr=0.1,0", "--sweep training.lr=0: [training] lr = 0 must be above 0"),
        ("trust.rule=mean,faith", '--sweep trust.rule=faith: [trust] rule = "faith" is not known'),
        (
            "topology.degree=4,20",
            "--sweep topology.degree=20: [topology] degree = 20 needs at least 21 nodes",
        ),
        ("training.rounds=2020-01-01", None),
    ],
)
def test_a_variant_is_checked_like_a_file(words, said):
    with pytest.raises(ConfigError) as caught:
        seeds.variants(SCENARIO, [words])
    assert said is None or caught.value.message == said


def test_a_scenario_survives_its_toml():
    raw = msgspec.toml.encode(seeds.plain(SCENARIO))
    assert scenario_of(msgspec.toml.decode(raw)) == SCENARIO
