"""The evidence rule over many nodes: what it remembers, copies, the guard, and independence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from konsil.simulations.sim.engine import Run, threads
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.rules import evidence as rule
from konsil.simulations.sim.rules.copies import shares
from konsil.simulations.sim.rules.memory import Memory
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.setting import setting_of
from konsil.trust.fixed import UNIT_E9


def scenario(**sections):
    plain = {
        "seed": 104,
        "population": {
            "nodes": 9, "dataset": "breast_cancer", "split": "dirichlet", "alpha": 1.0,
            "model": "logistic", "holdout": 0.4,
        },
        "topology": {"kind": "small_world", "degree": 4},
        "training": {"rounds": 5, "lr": 0.05},
        "adversary": {"fraction": 0.34, "attack": "sign_flip"},
    }  # fmt: skip
    return scenario_of({**plain, **sections})


@pytest.fixture
def run(tmp_path):
    with threads(1):
        yield Run(setting_of(scenario(), tmp_path), "cpu")


def caught(run):
    """The exchanges of a run, as its rule gets them."""
    found, inner = [], run.rule

    class Catching:
        def mix(self, exchange):
            found.append(exchange)
            return inner.mix(exchange)

    run.rule = Catching()
    return found, inner


def shares_of(exchange):
    distance, reach, _ = rule._distances(exchange)
    return shares(exchange, distance, reach)


def test_memory_keeps_what_each_receiver_learned_of_each_sender():
    memory = Memory(5)
    first = Links.of(5, np.array([0, 0, 3]), np.array([1, 4, 0]))
    assert [part.tolist() for part in memory.of(first)] == [[0, 0, 0], [0, 0, 0]]
    memory.keep(first, np.array([1, 2, 3]), np.array([10, 20, 30]))
    second = Links.of(5, np.array([0, 3, 3]), np.array([4, 0, 1]))
    assert [part.tolist() for part in memory.of(second)] == [[2, 3, 0], [20, 30, 0]]
    memory.keep(second, np.array([7, 8, 9]), np.array([70, 80, 90]))
    assert [part.tolist() for part in memory.of(first)] == [[1, 7, 8], [10, 70, 80]]


def test_hostile_senders_lose_trust_round_by_round_and_honest_ones_keep_theirs(run):
    found, _ = caught(run)
    for number in range(1, 6):
        run.round(number)
    links, weighed = found[-1].links, run.judgement.weighed
    honest = run.setting.honest
    bad = honest[links.receiver] & ~honest[links.sender]
    good = honest[links.receiver] & honest[links.sender]
    assert weighed.trust_e9[bad].mean() < 0.6 * weighed.trust_e9[good].mean()
    assert (weighed.w_e9 <= run.judgement.measures.metropolis_e9).all()


def test_a_receiver_judges_the_same_whoever_else_is_simulated(run):
    """Each node alone, with only its own links, gets the model that it gets among all."""
    found, inner = caught(run)
    run.round(1)
    run.round(2)
    exchange, memory = found[-1], Memory(9)
    assert len(exchange.links)
    whole = rule.Evidence(inner._judging, 9)
    together = whole.mix(exchange).models
    for node in range(9):
        alone = rule.Evidence(inner._judging, 9)
        alone._memory = memory
        mine = alone.mix(exchange.keep(exchange.links.receiver == node)).models
        torch.testing.assert_close(mine[node], together[node], atol=1e-6, rtol=1e-5)


def test_blocks_do_not_matter(run, monkeypatch):
    found, inner = caught(run)
    run.round(1)
    expected = rule.Evidence(inner._judging, 9).mix(found[0]).models
    monkeypatch.setattr(rule, "BLOCK_BYTES", 1)
    monkeypatch.setattr(rule, "DISTANCE_BYTES", 1)
    again = rule.Evidence(inner._judging, 9).mix(found[0]).models
    torch.testing.assert_close(again, expected, atol=1e-6, rtol=1e-5)


def test_of_identical_models_one_counts_and_an_echo_counts_nothing(run):
    found, _ = caught(run)
    run.round(1)
    exchange = found[0]
    receiver = int(np.flatnonzero(exchange.links.degrees >= 3)[0])
    mine = np.flatnonzero(exchange.links.receiver == receiver)
    table = exchange.table.clone()
    first, second, third = exchange.source[mine[:3]]
    table[second] = table[first]
    table[third] = exchange.before[receiver]
    forged = exchange.__class__(**{**exchange.__dict__, "table": table})
    assert shares_of(forged)[mine[:3]].tolist() == [UNIT_E9, 0, 0]
    assert (shares_of(exchange) == UNIT_E9).all()


def test_a_mix_that_would_harm_the_own_patients_is_shortened(run):
    found, inner = caught(run)
    run.round(1)
    exchange = found[0]

    class Afraid:
        """Finds every mix twice as bad as the last model."""

        def __getattr__(self, name):
            return getattr(inner._judging, name)

        def losses(self, models, nodes):
            return inner._judging.losses(models, nodes) * 4 + 1

    judge = rule.Evidence(Afraid(), 9)
    mixed = judge.mix(exchange)
    assert not mixed.judgement.step_e9.any()
    assert torch.equal(mixed.models, exchange.trained)
    assert not mixed.granted.any()
