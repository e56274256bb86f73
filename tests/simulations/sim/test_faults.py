"""Faults: what a plan decides is what it counts, and only what was asked for happens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.simulations.sim.faults import FaultPlan
from konsil.simulations.sim.graphs import graphs_of
from konsil.simulations.sim.scenario import Faults, Topology

NODES, ROUNDS = 16, 24


def ring(nodes=NODES, kind="ring_chords"):
    return graphs_of(Topology(kind=kind), nodes, 1, Path("nowhere")).at(1)


def plan(seed=1, nodes=NODES, hostile=(), **keys):
    return FaultPlan.of(Faults(**keys), nodes, ROUNDS, hostile, seed)


def run(faults, links):
    return [faults.step(number, links) for number in range(1, ROUNDS + 1)]


def pairs(links):
    return set(zip(links.receiver.tolist(), links.sender.tolist(), strict=True))


every = st.fixed_dictionaries(
    {},
    optional={
        "churn": st.floats(0.05, 0.6),
        "partition": st.just(((3, 7), (15, 15))),
        "drop": st.floats(0.05, 0.6),
        "delay_rounds": st.integers(1, 4),
        "slow": st.floats(0.1, 0.6),
        "late": st.floats(0.1, 0.6),
        "heal": st.just(True),
    },
)


def recount(links, rounds, late):
    """Every count, by a loop over nodes and links that knows only what the rounds show."""
    counts = dict.fromkeys(
        ("churn", "returns", "partition", "drop", "delay", "slow", "late", "heal"), 0
    )
    here = set(range(NODES)) - late
    joined = set(here)
    for number, condition in enumerate(rounds, start=1):
        now = set(np.flatnonzero(condition.present).tolist())
        counts["churn"] += len(here - now)
        counts["returns"] += len((now - here) & joined)
        counts["late"] += len(now - joined)
        here, joined = now, joined | now
        counts["slow"] += len(now - set(np.flatnonzero(condition.active).tolist()))
        among = {(a, b) for a, b in pairs(links) if a in now and b in now}
        counts["partition"] += len(among - pairs(condition.links))
        counts["heal"] += len(pairs(condition.links) - pairs(links))
        links_now = condition.links
        messages = zip(
            links_now.receiver, links_now.sender, condition.arrives, condition.delay, strict=True
        )
        for receiver, sender, arrives, delay in messages:
            sent = rounds[number - 1 - delay].active[sender] and condition.active[receiver]
            assert sent or not arrives, "nothing arrives that was not sent"
            counts["drop"] += bool(sent) and not arrives
            counts["delay"] += bool(arrives) and int(delay) > 0
    return counts


@settings(max_examples=40, deadline=None)
@given(every, st.integers(0, 50))
def test_every_count_is_what_the_rounds_show(keys, seed):
    links = ring()
    rounds = run(plan(seed, **keys), links)
    start = plan(seed, late=keys.get("late", 0.0)).step(1, links)
    expected = recount(links, rounds, set(np.flatnonzero(~start.present).tolist()))
    names = {"delay_rounds": "delay"}
    kinds = {names.get(key, key) for key in keys} | ({"returns"} if "churn" in keys else set())
    assert rounds[-1].counts == {kind: expected[kind] for kind in kinds}
    assert not any(expected[kind] for kind in set(expected) - kinds)


@settings(max_examples=40, deadline=None)
@given(every, st.integers(0, 50))
def test_a_condition_holds_together(keys, seed):
    links = ring()
    for number, condition in enumerate(run(plan(seed, **keys), links), start=1):
        among = condition.links
        assert condition.present[among.receiver].all()
        assert condition.present[among.sender].all()
        assert condition.present.sum() >= 2
        assert not (condition.active & ~condition.present).any()
        assert len(condition.arrives) == len(condition.delay) == len(among)
        assert condition.delay.min(initial=0) >= 0
        assert condition.delay.max(initial=0) <= min(keys.get("delay_rounds", 0), number - 1)
        undirected = {(b, a) for a, b in pairs(among)}
        assert undirected == pairs(among)


@settings(max_examples=20, deadline=None)
@given(every, st.integers(0, 50))
def test_the_same_seed_gives_the_same_rounds(keys, seed):
    for one, other in zip(
        run(plan(seed, **keys), ring()), run(plan(seed, **keys), ring()), strict=True
    ):
        assert one.counts == other.counts
        assert (one.present == other.present).all()
        assert (one.arrives == other.arrives).all()
        assert (one.delay == other.delay).all()
        assert pairs(one.links) == pairs(other.links)


def test_a_round_does_not_depend_on_which_were_asked_for_before():
    keys = {"churn": 0.2, "drop": 0.3, "delay_rounds": 2, "heal": True}
    alone = plan(**keys).step(9, ring())
    among = run(plan(**keys), ring())[8]
    assert (alone.present == among.present).all()
    assert (alone.arrives == among.arrives).all()
    assert (alone.delay == among.delay).all()


def test_without_faults_nothing_changes():
    links = ring()
    faults = plan()
    for condition in run(faults, links):
        assert condition.links is links
        assert condition.active.all()
        assert condition.arrives.all()
        assert not condition.delay.any()
        assert condition.counts == {}


def test_a_partition_cuts_the_same_halves_and_then_the_graph_is_as_before():
    links = ring(kind="complete")
    rounds = run(plan(partition=((3, 5), (9, 9))), links)
    cut = [number for number, one in enumerate(rounds, start=1) if one.links is not links]
    assert cut == [3, 4, 5, 9]
    half = NODES // 2
    for number in cut:
        assert pairs(rounds[number - 1].links) == pairs(rounds[cut[0] - 1].links)
        assert set(rounds[number - 1].links.degrees.tolist()) == {half - 1}
    assert rounds[-1].counts == {"partition": 4 * 2 * half * half}


def test_healing_keeps_each_half_to_itself():
    links = ring()
    halves = run(plan(partition=((1, ROUNDS),)), ring(kind="complete"))[0].links
    for condition in run(plan(partition=((1, ROUNDS),), churn=0.3, heal=True), links):
        assert pairs(condition.links) <= pairs(halves)


def test_slow_nodes_train_in_every_tenth_round():
    rounds = run(plan(slow=0.25), ring())
    slow = ~rounds[1].active
    assert slow.sum() == 4
    for number, condition in enumerate(rounds, start=1):
        assert (condition.active == (~slow | (number in {1, 11, 21}))).all()
    assert rounds[-1].counts == {"slow": 4 * (ROUNDS - 3)}


def test_shares_of_messages_are_kept():
    links = graphs_of(Topology(kind="random_regular"), 2000, 1, Path("nowhere")).at(1)
    rounds = run(plan(nodes=2000, drop=0.1, delay_rounds=3), links)
    lost = np.concatenate([~one.arrives for one in rounds])
    late = np.concatenate([one.delay for one in rounds[3:]])
    assert lost.mean() == pytest.approx(0.1, abs=0.003)
    assert np.bincount(late, minlength=4) / len(late) == pytest.approx([0.25] * 4, abs=0.005)


def test_two_honest_nodes_stay():
    hostile = range(3, NODES)
    for condition in run(plan(churn=1.0, hostile=hostile), ring()):
        assert condition.present[:3].sum() >= 2
