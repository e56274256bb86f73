"""Pauses double and stay finite, however often a thing failed."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from konsil.node.exchange.backoff import backoff


def test_a_pause_doubles_until_it_is_the_longest():
    pauses = [backoff(failures, first_s=0.5, longest_s=5.0) for failures in range(6)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


@given(st.integers(min_value=0, max_value=10**12), st.floats(0.01, 10.0), st.floats(10.0, 1e4))
def test_any_count_of_failures_has_a_pause(failures, first_s, longest_s):
    assert first_s <= backoff(failures, first_s=first_s, longest_s=longest_s) <= longest_s


def test_more_failures_never_make_a_pause_shorter():
    pauses = [backoff(failures, first_s=0.3, longest_s=30.0) for failures in range(3000)]
    assert all(one <= other for one, other in pairwise(pauses))
