"""Whom a round waits for, and how long."""

from __future__ import annotations

import math

import pytest
import trio

from konsil.node.learning.arrivals import ANYBODY, LONGEST_TEST, Arrivals


async def waited(arrivals, company, patience_s=100.0, grace_s=1.0):
    begun = trio.current_time()
    await arrivals.wait(lambda: set(company), patience_s, grace_s)
    return trio.current_time() - begun


async def test_nobody_waits_for_those_that_delivered(autojump_clock):
    assert await waited(Arrivals("ab"), "ab") == 0


@pytest.mark.parametrize(
    ("company", "after", "seconds", "late"),
    [
        ("abc", {"a": 5, "b": 7, "c": 7.5}, 7.5, ""),
        ("abc", {"a": 5, "b": 7}, 8, "c"),
        ("abcd", {"a": 5, "b": 7, "c": 50}, 8, "cd"),
        ("abcd", {"a": 5}, 100, "bcd"),
        ("a", {}, 100, "a"),
        ("ab", {"a": 5}, 6, "b"),
        ("ab", {}, 100, "ab"),
    ],
)
async def test_the_grace_begins_when_half_have_delivered(
    autojump_clock, nursery, company, after, seconds, late
):
    arrivals = Arrivals()

    async def deliver():
        for node, at in after.items():
            await trio.sleep(at + begun - trio.current_time())
            arrivals.note(node)

    begun = trio.current_time()
    nursery.start_soon(deliver)
    assert await waited(arrivals, company) == pytest.approx(seconds)
    assert arrivals.waived == set(late)
    nursery.cancel_scope.cancel()


async def test_a_late_one_has_to_keep_pace_twice_as_long_each_time(autojump_clock):
    arrivals, tests = Arrivals(), []
    for _ in range(8):
        assert await waited(arrivals, "ab") == pytest.approx(100.0)
        shown = 0
        while "a" in arrivals.waived:
            arrivals.note("a")
            arrivals.take("ab")
            shown += 1
        tests.append(shown)
    assert tests == [1, 2, 4, 8, 16, 32, 64, LONGEST_TEST]


async def test_a_gap_begins_the_test_anew(autojump_clock):
    arrivals = Arrivals("b")
    await waited(arrivals, "ab")
    for delivers in (True, False, True):
        if delivers:
            arrivals.note("a")
        arrivals.take("a")
    assert arrivals.waived == {"a"}
    arrivals.note("a")
    arrivals.take("a")
    assert arrivals.waived == set()


async def test_who_was_not_heard_in_a_round_is_not_tested_in_it(autojump_clock):
    arrivals = Arrivals()
    await waited(arrivals, "a")
    for heard in ("a", "b", "a"):
        arrivals.delivered |= set(heard)
        arrivals.take(heard)
    assert arrivals.waived == set()


async def test_anybody_is_waited_for_as_long_as_patience_says(autojump_clock):
    arrivals = Arrivals()
    assert await waited(arrivals, {ANYBODY}, patience_s=7.0) == pytest.approx(7.0)
    assert arrivals.waived == set()


async def test_a_change_ends_a_wait_without_limit(autojump_clock, nursery):
    arrivals, somebody = Arrivals(), set()

    async def come():
        await trio.sleep(3.0)
        somebody.add("a")
        arrivals.stir()

    nursery.start_soon(come)
    with trio.fail_after(10.0):
        await arrivals.wait(lambda: () if somebody else {ANYBODY}, math.inf, math.inf)
    assert somebody == {"a"}
