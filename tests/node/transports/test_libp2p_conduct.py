"""Conduct: abuse of the transport adds up, fades, and is nobody else's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from konsil.node.transports.libp2p_conduct import ABUSE, GRAYLIST, HALF_LIFE_S, WORST, Conduct

steps = st.lists(st.tuples(st.sampled_from(sorted(ABUSE)), st.floats(0, 1e5)), max_size=20)


@given(steps)
def test_an_offence_lowers_the_score_and_only_time_raises_it(some):
    conduct, now = Conduct(), 0.0
    for where, passed in some:
        before = conduct.score("a", now)
        now += passed
        faded = conduct.score("a", now)
        conduct.note(where, "a", now)
        assert before <= faded <= 0
        assert WORST <= conduct.score("a", now) < faded or faded == WORST
    assert conduct.score("b", now) == 0


def test_half_is_forgiven_after_the_half_life():
    conduct = Conduct()
    for _ in range(20):
        conduct.note("gossip stream", "a", 5.0)
    assert conduct.score("a", 5.0) == -20 < GRAYLIST
    assert conduct.score("a", 5.0 + HALF_LIFE_S) == -10 > GRAYLIST


def test_what_is_no_neighbours_doing_is_not_counted():
    conduct = Conduct()
    for where, peer in (("session", "a"), ("heartbeat", "a"), ("gossip stream", "")):
        conduct.note(where, peer, 0.0)
    assert conduct.score("a", 0.0) == conduct.score("", 0.0) == 0
