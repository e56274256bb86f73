"""The structs of a scenario: defaults, and what follows from what is written."""

from __future__ import annotations

import msgspec
import pytest

from konsil.simulations.sim.scenario import (
    Adversary,
    Faults,
    Output,
    Population,
    Scenario,
    Topology,
    Training,
)


def scenario(nodes=20, **sections):
    return Scenario(
        population=Population(nodes=nodes, dataset="digits"),
        topology=Topology(kind="ring"),
        **sections,
    )


def test_the_defaults_are_those_of_the_contract():
    plain = msgspec.to_builtins(scenario())
    assert plain["seed"] == 0
    assert plain["population"] == {
        "nodes": 20, "dataset": "digits", "split": "iid", "alpha": 0.5, "classes_each": 2,
        "rows": None, "model": "logistic", "metric": "accuracy", "holdout": 0.2, "size_skew": 0.0,
        "feature_shift": 0.0, "drift": 0.0, "label": "", "site": "", "patient": "",
    }  # fmt: skip
    assert plain["topology"] == {"kind": "ring", "degree": None, "rewire": 0.3, "period": 1}
    assert plain["training"] == {
        "rounds": 40, "local_steps": None, "local_epochs": None, "batch": 16, "lr": 0.1
    }  # fmt: skip
    assert list(plain["artifacts"]["kinds"]) == ["parameters"]
    assert plain["trust"] == {"rule": "evidence"}
    assert plain["adversary"] == {"fraction": 0.0, "attack": "", "strength": None}
    assert not any(plain["faults"].values())
    assert plain["ledger"] == {"enabled": False}
    assert plain["output"] == {"eval_every": None}


@pytest.mark.parametrize(
    ("nodes", "share", "count"),
    [(20, 0.3, 6), (10, 0.05, 1), (10, 0.04, 0), (5, 0.3, 2), (7, 0.0, 0), (3, 1.0, 3)],
)
def test_a_share_is_the_nearest_number_of_nodes_halves_upwards(nodes, share, count):
    assert scenario(nodes).nodes_in(share) == count


def test_hostile_nodes_are_counted_from_the_fraction():
    assert scenario(adversary=Adversary(fraction=0.3, attack="ipm")).hostile == 6
    assert scenario().hostile == 0


def test_one_name_and_a_list_of_one_mean_the_same():
    assert Adversary(attack="ipm").attacks == Adversary(attack=("ipm",)).attacks == ("ipm",)
    assert Adversary().attacks == ()
    assert Population(nodes=2, dataset="digits").models == ("logistic",)
    assert Population(nodes=2, dataset="digits", model=("a", "b")).models == ("a", "b")


def test_local_work_is_an_epoch_unless_something_else_is_said():
    assert Training().epochs == 1
    assert Training(local_epochs=3).epochs == 3
    assert Training(local_steps=5).epochs is None


@pytest.mark.parametrize(("rounds", "every"), [(40, 2), (100, 5), (19, 1), (1, 1)])
def test_a_twentieth_of_the_rounds_is_evaluated(rounds, every):
    assert scenario(training=Training(rounds=rounds)).eval_every == every
    assert scenario(output=Output(eval_every=7)).eval_every == 7


def test_faults_are_requested_by_their_keys():
    assert Faults().requested == ()
    every = Faults(
        churn=0.1, partition=((1, 2),), drop=0.1, delay_rounds=1, slow=0.1, late=0.1, heal=True
    )
    assert every.requested == Faults.__struct_fields__
    assert Faults(drop=0.5, delay_rounds=2).requested == ("drop", "delay_rounds")


def test_a_scenario_cannot_be_changed():
    with pytest.raises(AttributeError):
        scenario().seed = 3
