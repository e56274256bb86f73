"""One slow hospital costs the others next to nothing; whoever comes late learns from heads.

Real learners in simulated time, with workers that only sleep.
"""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Hospital, World, run

from konsil.node.learning.learner import PATIENCE_SHARE
from konsil.node.learning.partners import partners

OTHERS = ("a", "b", "c")
LATE_AFTER_S = 0.5


def steady(seconds):
    return lambda _: seconds


def jittery(seconds, seed):
    draw = random.Random(seed)
    return lambda _: seconds * draw.uniform(0.9, 1.1)


def finish(**paces):
    """When the others end their last round, in seconds."""
    rounds = paces.pop("rounds", 20)
    found = run(paces, rounds=rounds, until=OTHERS)
    return max(found[name].ended[-1] for name in OTHERS)


@pytest.mark.parametrize("work_s", [1.0, 60.0, 3600.0])
@pytest.mark.parametrize("times", [3, 10, 10_000])
def test_a_slow_node_changes_the_others_finish_time_by_less_than_a_tenth(work_s, times):
    alike = finish(a=steady(work_s), b=steady(work_s), c=steady(work_s), d=steady(work_s))
    slow = finish(a=steady(work_s), b=steady(work_s), c=steady(work_s), d=steady(times * work_s))
    assert alike <= slow < 1.1 * alike


@settings(max_examples=8, deadline=None)
@given(
    late=st.lists(st.floats(1.0, 200.0), min_size=12, max_size=12),
    work_s=st.sampled_from([1.0, 30.0]),
)
def test_however_a_node_changes_its_pace_it_costs_few_graces(late, work_s):
    alike = finish(a=steady(work_s), b=steady(work_s), c=steady(work_s), rounds=40)
    moody = finish(
        a=steady(work_s), b=steady(work_s), c=steady(work_s), rounds=40,
        d=lambda number: late[number % len(late)] * work_s,
    )  # fmt: skip
    # Late once; then after 2, 4, 8 and 16 rounds in a row at most once each.
    assert moody <= alike + 5 * (LATE_AFTER_S + PATIENCE_SHARE * work_s) + 1e-6


def test_those_of_one_pace_hear_each_other_in_every_round():
    paces = {name: jittery(60.0, name) for name in "abcd"}
    found = run(paces, rounds=10)
    for name, one in found.items():
        assert one.mixed == [dict.fromkeys(sorted(set("abcd") - {name}), 0)] * 10


def test_a_slow_node_is_heard_whenever_it_delivers():
    found = run({**dict.fromkeys(OTHERS, steady(10.0)), "d": steady(45.0)}, until=OTHERS)
    heard = [number for number, mixed in enumerate(found["a"].mixed, 1) if "d" in mixed]
    assert len(heard) == 4
    assert all("b" in mixed and "c" in mixed for mixed in found["a"].mixed)


def test_who_keeps_pace_again_is_waited_for_again():
    def ill(number):
        return 100.0 if number == 2 else 11.0

    found = run({**dict.fromkeys(OTHERS, steady(10.0)), "d": ill}, until=OTHERS)
    assert all("d" in mixed for mixed in found["a"].mixed[-5:])
    # The pace is that of the slower one then; while it was away, it was the others' own.
    ended = found["a"].ended
    assert ended[-1] - ended[-2] == pytest.approx(11.0, abs=0.2)
    assert ended[5] - ended[4] == pytest.approx(10.0, abs=0.2)


def test_a_fast_node_goes_with_its_company_as_far_as_its_patience():
    paces = {"a": steady(1.0), "b": steady(20.0), "c": steady(20.0), "d": steady(20.0)}
    patient = run(paces, rounds=6)
    assert patient["a"].mixed == [dict.fromkeys("bcd", 0)] * 6
    hasty = run(paces, rounds=6, patience_s=5.0)
    assert hasty["a"].ended[-1] == pytest.approx(5.0 + 6 * 1.0)


def test_of_two_nodes_of_unlike_pace_the_slow_one_costs_a_few_patiences():
    """An only neighbour is all that there is to mix with, so it gets more than a grace."""
    found = run({"a": steady(10.0), "b": steady(100.0)}, rounds=20, until=("a",), patience_s=15.0)
    assert 20 * 10.0 < found["a"].ended[-1] < 20 * 10.0 + 3 * 15.0


def test_whoever_joins_when_the_others_have_stopped_hears_them_in_every_round():
    paces = dict.fromkeys("abcd", steady(10.0))
    found = run(paces, rounds=5, late={"d": 1000.0})
    assert [sorted(mixed) for mixed in found["a"].mixed] == [["b", "c"]] * 5
    assert found["d"].mixed == [dict.fromkeys(OTHERS, 0)] * 5
    assert found["d"].ended[-1] == pytest.approx(1000.0 + 5 * 10.0)


def test_an_epidemic_hears_those_drawn_for_the_round():
    names = "abcdefgh"
    found = run({name: jittery(10.0, name) for name in names}, rounds=6, gossip="epidemic")
    for name, one in found.items():
        for number, mixed in enumerate(one.mixed, 1):
            assert set(mixed) <= partners("epidemic", name, number, set(names))
        assert sum(len(mixed) for mixed in one.mixed) >= 0.8 * 6 * 3


def test_pairs_wait_for_nobody_and_take_the_newest_there_is():
    paces = {"a": steady(1.0), "b": steady(1.0), "c": steady(7.0), "d": steady(1.0)}
    found = run(paces, rounds=30, gossip="pairs", until=("a", "b", "d"))
    assert found["a"].ended[-1] < 1.1 * 30.0
    lags = [mixed["c"] for mixed in found["a"].mixed if "c" in mixed]
    assert max(lags) > 0
    assert all(len(mixed) <= 1 for mixed in found["a"].mixed)


def test_another_kind_is_not_taken_and_is_named_once():
    world, told = World(("a", "b")), []
    for name in world.names:
        world.open[name] = Hospital(
            name, steady(1.0), world, rounds=1, patience_s=1.0, gossip="neighbours"
        )
    learner = world.open["a"].learner
    learner._log = SimpleNamespace(warning=lambda event, **what: told.append((event, what)))
    answers, model = (SimpleNamespace(publisher="b", kind=one) for one in ("logits", "parameters"))
    assert [learner.takes(one) for one in (answers, model, answers)] == [False, True, False]
    assert [(event, what["theirs"]) for event, what in told] == [("artifact.other_kind", "logits")]
    assert not learner.takes(SimpleNamespace(publisher="stranger", kind="parameters"))
