"""Whom a round hears: a fair draw that anybody can repeat."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.node.learning.partners import degree, partners

NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=4), max_size=20)
MODES = ("neighbours", "epidemic", "pairs")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODES), NAMES, st.integers(0, 2**40))
def test_only_reachable_others_are_drawn_and_as_many_as_promised(mode, names, number):
    drawn = partners(mode, "me", number, names | {"me"})
    assert drawn <= names
    assert len(drawn) == degree(mode, len(names))
    assert drawn == partners(mode, "me", number, sorted(names))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODES[1:]), NAMES.filter(bool), st.integers(1, 2**40))
def test_who_leaves_frees_only_its_own_place(mode, names, number):
    drawn = partners(mode, "me", number, names)
    for gone in names:
        after = partners(mode, "me", number, names - {gone})
        assert drawn - {gone} >= after - (after - drawn)
        assert len(after - drawn) <= (gone in drawn)


@given(st.integers(2, 10_000))
def test_an_epidemic_hears_the_logarithm(nodes):
    assert degree("epidemic", nodes - 1) == ceil(log2(nodes))


@pytest.mark.parametrize(("mode", "drawn"), [("epidemic", 4), ("pairs", 1)])
def test_the_draw_is_even_over_partners_and_rounds(mode, drawn):
    names, rounds = [f"node {place}" for place in range(9)], 1800
    for me in ("me", "you"):
        found = [partners(mode, me, number, names) for number in range(1, rounds + 1)]
        counts = Counter(name for one in found for name in one)
        expected = rounds * drawn / len(names)
        # Chi-squared with 8 degrees of freedom stays below 26 but once in a thousand draws.
        spread = sum((counts[name] - expected) ** 2 / expected for name in names)
        assert spread < 26
        repeated = sum(now == after for now, after in pairwise(found))
        assert repeated < rounds * 0.16


def test_two_nodes_draw_apart():
    names = [f"node {place}" for place in range(8)]
    same = sum(
        partners("pairs", "me", number, names) == partners("pairs", "you", number, names)
        for number in range(800)
    )
    assert 50 < same < 150
