"""Ageing: evidence fades by the day, the same for a node, after a restart, and for an auditor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from ledgers import audit_of, codes, two

from konsil.node.learning.memory import recall
from konsil.trust import score
from konsil.trust.ageing import DAY_MS, HALF_LIFE_DAYS, aged, day_of
from konsil.trust.fixed import CEILING_E9, UNIT_E9
from konsil.trust.questions import peer_trust_views
from konsil.trust.questions.gathering import gather
from konsil.trust.questions.peer_trust import peer_trust
from konsil.trust.score import Score

scores = st.builds(Score, r_e9=st.integers(0, CEILING_E9), s_e9=st.integers(0, CEILING_E9))
days = st.integers(0, 400)


@given(scores, days, days)
def test_to_age_twice_is_to_age_by_the_sum(one, first, then):
    assert aged(aged(one, first), then) == aged(one, first + then)


@given(scores, days)
def test_trust_never_leaves_its_way_back_to_the_prior(one, passed):
    before, after = score.trust(one), score.trust(aged(one, passed))
    assert abs(after - score.NEUTRAL_E9) <= abs(before - score.NEUTRAL_E9) + 1


def test_half_is_left_after_the_half_life_and_nothing_in_the_end():
    old = Score(r_e9=8 * UNIT_E9, s_e9=2 * UNIT_E9)
    half = aged(old, HALF_LIFE_DAYS)
    assert abs(half.r_e9 - 4 * UNIT_E9) < 100
    assert abs(half.s_e9 - UNIT_E9) < 100
    assert aged(old, 10**9) == Score()


def test_days_are_those_since_the_log_began():
    assert [day_of(5, 5 + passed) for passed in (0, DAY_MS - 1, DAY_MS, 9 * DAY_MS)] == [0, 0, 1, 9]
    assert day_of(DAY_MS, 0) == 0


def round_of(bern, graz):
    for one in (bern, graz):
        one.train()
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent])


def test_an_auditor_and_a_restart_find_what_the_days_left(tmp_path):
    bern, graz = two(tmp_path)
    for passed in (0, 45 * DAY_MS, DAY_MS - 5_000, 3 * DAY_MS):
        bern.clock.now += passed
        round_of(bern, graz)
    bern.clock.now += 30 * DAY_MS
    bern.train()
    left = bern.scores[graz.node]
    journal = bern.journal
    memory = recall(journal.entries(), journal.blobs.get, bern.store.has, journal.size)
    assert memory.standing(graz.node).score == left
    assert memory.standing(graz.node).trust_e9 == score.trust(left)
    assert left.r_e9 < 3 * UNIT_E9
    assert audit_of(bern, graz).findings == ()
    told = gather([bern.home])
    lines = peer_trust_views.to_lines(told, peer_trust(told, told.homes[0], "graz"))
    assert sum("days passed, and evidence fades" in line for line in lines) == 2


def test_a_record_that_does_not_age_is_found(tmp_path):
    bern, graz = two(tmp_path)
    round_of(bern, graz)
    kept = bern.scores[graz.node]
    bern.clock.now += 2 * DAY_MS
    for one in (bern, graz):
        one.train()
    bern.scores[graz.node] = kept
    sent = graz.publish()
    bern.receive(sent, graz.author)
    bern.mix([sent])
    assert codes(audit_of(bern, graz)) == {"trust.chain"}
