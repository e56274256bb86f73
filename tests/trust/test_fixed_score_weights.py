"""Fixed-point arithmetic, scores and weights: laws, and agreement with floating point."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konsil.protocol.errors import LocalProtocolError
from konsil.trust import fixed, score, weights
from konsil.trust.fixed import CEILING_E9, UNIT_E9

fractions = st.integers(0, UNIT_E9)
evidence = st.integers(0, 60 * UNIT_E9)


@settings(max_examples=200)
@given(st.integers(-8 * UNIT_E9, 8 * UNIT_E9))
def test_normal_cdf_agrees_with_the_library(x):
    wanted = statistics.NormalDist().cdf(x / 1e9)
    assert abs(fixed.normal_cdf(x) - wanted * 1e9) <= 500


@given(st.integers(-7 * 256, 7 * 256))
def test_normal_cdf_is_exact_at_the_places_of_its_table(place):
    wanted = statistics.NormalDist().cdf(place / 256)
    x = place * UNIT_E9 // 256
    assert abs(fixed.normal_cdf(x) - wanted * 1e9) <= 2


@given(st.integers(-8 * UNIT_E9, 8 * UNIT_E9), st.integers(0, 10**7))
def test_normal_cdf_never_falls(x, more):
    assert fixed.normal_cdf(x) <= fixed.normal_cdf(x + more)


def test_normal_cdf_at_the_tails():
    assert fixed.normal_cdf(-CEILING_E9) == 0
    assert fixed.normal_cdf(CEILING_E9) == UNIT_E9
    assert fixed.normal_cdf(-6 * UNIT_E9) == 1


@given(st.integers(-8 * UNIT_E9, 8 * UNIT_E9))
def test_normal_cdf_is_symmetric(x):
    assert fixed.normal_cdf(x) + fixed.normal_cdf(-x) == UNIT_E9


amounts = st.integers(-CEILING_E9, CEILING_E9)


@given(amounts, st.integers(1, 2 * CEILING_E9))
def test_a_ratio_is_the_nearest_integer_or_saturates(numerator, denominator):
    exact = (2 * numerator * UNIT_E9 + denominator) // (2 * denominator)
    assert fixed.ratio(numerator, denominator) == max(-CEILING_E9, min(CEILING_E9, exact))
    size = abs(numerator)
    if size <= denominator:
        assert fixed.part(size, denominator) == size * UNIT_E9 // denominator


@settings(max_examples=100)
@given(st.lists(st.tuples(amounts, st.integers(1, 2 * CEILING_E9)), min_size=1, max_size=9))
def test_arrays_are_carried_by_the_same_arithmetic(pairs):
    one, other = (np.array(column) for column in zip(*pairs, strict=True))
    for place, (a, b) in enumerate(pairs):
        assert fixed.ratio(one, other)[place] == fixed.ratio(a, b)
        assert fixed.normal_cdf(one)[place] == fixed.normal_cdf(a)
        assert fixed.lesser(one, other)[place] == min(a, b)
        assert fixed.greater(one, other)[place] == max(a, b)


def test_measurements_are_quantised():
    assert fixed.to_e9(1.5e-9) == 2
    assert fixed.to_e9(2.5e-9) == 2
    assert fixed.to_e9(-0.1) == -100_000_000
    assert fixed.to_e9(math.inf) == CEILING_E9
    assert fixed.to_e9(-1e30) == -CEILING_E9
    with pytest.raises(LocalProtocolError, match="NaN"):
        fixed.to_e9(math.nan)
    many = [1.5e-9, 2.5e-9, -0.1, math.inf, -1e30]
    assert fixed.many_to_e9(np.array(many)).tolist() == [fixed.to_e9(one) for one in many]
    with pytest.raises(LocalProtocolError, match="NaN"):
        fixed.many_to_e9(np.array([math.nan]))


@given(st.lists(fractions, min_size=1, max_size=6))
def test_a_product_never_exceeds_its_factors(factors):
    assert fixed.product(*factors) <= min(factors)


def test_ratio_rounds_halves_up_also_below_zero():
    assert fixed.ratio(1, 2 * UNIT_E9) == 1
    assert fixed.ratio(-1, 2 * UNIT_E9) == 0
    assert fixed.ratio(-3, 2 * UNIT_E9) == -1


@given(evidence, evidence, fractions, fractions, st.booleans())
def test_trust_grows_with_the_quality_of_the_artifact(r, s, one, two, refused):
    known = score.Score(r_e9=r, s_e9=s)
    worse, better = (
        score.trust(score.learned(known, q, refused=refused)) for q in sorted((one, two))
    )
    assert worse <= better


@given(evidence, evidence, fractions)
def test_of_whom_we_refuse_only_what_speaks_clearly_counts(r, s, q):
    known = score.Score(r_e9=r, s_e9=s)
    refused, trusted = score.learned(known, q, refused=True), score.learned(known, q)
    assert refused.r_e9 <= trusted.r_e9
    assert refused.s_e9 <= trusted.s_e9
    faded = score.learned(known, UNIT_E9 // 2, refused=True)
    assert abs(faded.r_e9 - 0.96 * r) <= 1
    assert abs(faded.s_e9 - 0.96 * s) <= 1
    if q in (0, UNIT_E9):
        assert refused == trusted


def test_whom_we_refuse_comes_back_by_what_it_does_for_us():
    peer = score.Score(r_e9=0, s_e9=6 * UNIT_E9)
    for _ in range(12):
        refused = weights.gate(score.trust(peer)) == 0
        peer = score.learned(peer, 9 * UNIT_E9 // 10, refused=refused)
    assert score.trust(peer) > UNIT_E9 // 2


@given(evidence, evidence)
def test_a_refusal_never_raises_trust(r, s):
    known = score.Score(r_e9=r, s_e9=s)
    assert score.trust(score.penalised(known)) <= score.trust(known)
    assert score.penalised(known).s_e9 == s + 5 * UNIT_E9


@given(evidence, evidence, fractions)
def test_a_score_follows_the_formula(r, s, q):
    new = score.learned(score.Score(r_e9=r, s_e9=s), q)
    assert abs(new.r_e9 - (0.96 * r + q)) <= 1
    assert abs(new.s_e9 - (0.96 * s + 1.5 * (UNIT_E9 - q))) <= 1
    wanted = (new.r_e9 / 1e9 + 1) / (new.r_e9 / 1e9 + new.s_e9 / 1e9 + 2)
    assert abs(score.trust(new) - wanted * 1e9) <= 1


@given(evidence, evidence, st.integers(0, 12))
def test_opinions_move_trust_by_a_bounded_amount(r, s, sybils):
    """Whatever the base rate that any number of colluders reach, within 0.25 and 0.75."""
    known = score.Score(r_e9=r, s_e9=s)
    rate = UNIT_E9 // 2 + min(sybils * UNIT_E9 // 8, UNIT_E9 // 4)
    moved = abs(score.trust(known, rate) - score.trust(known))
    assert moved <= 0.5e18 / (r + s + 2 * UNIT_E9) + 1


def test_a_newcomer_has_the_full_gate_and_trust_one_half():
    assert score.trust(score.Score()) == UNIT_E9 // 2
    assert weights.gate(score.trust(score.Score())) == UNIT_E9


def test_a_quality_outside_its_range_is_our_bug():
    for wrong in (-1, UNIT_E9 + 1):
        with pytest.raises(LocalProtocolError, match="quality"):
            score.learned(score.Score(), wrong)


@given(st.lists(st.tuples(st.integers(1, 40)), min_size=1, max_size=40))
def test_metropolis_weights_leave_room_for_the_own_model(others):
    degree = len(others)
    assert sum(weights.metropolis_e9(degree, other) for (other,) in others) < UNIT_E9


def test_metropolis_is_symmetric_and_knows_a_publisher_that_left():
    assert weights.metropolis_e9(3, 7) == weights.metropolis_e9(7, 3) == UNIT_E9 // 8
    assert weights.metropolis_e9(0, 0) == UNIT_E9 // 2


@given(st.integers(1, 30), st.integers(1, 30))
def test_more_candidates_than_edges_still_leave_an_own_share(degree, candidates):
    weight = weights.shared_out(weights.metropolis_e9(degree, 1), candidates)
    assert weight * candidates < UNIT_E9
    if candidates <= degree:
        assert weight == weights.metropolis_e9(degree, 1)


def test_staleness_lowers_but_never_ends_a_weight():
    assert [weights.staleness(lag) for lag in (0, 1, 3)] == [UNIT_E9, UNIT_E9 // 2, UNIT_E9 // 4]
    assert weights.staleness(1000) > 0
    with pytest.raises(LocalProtocolError, match="lag"):
        weights.staleness(-1)


@given(st.integers(1, 10**15), st.integers(0, 10**12), st.integers(0, 10**12))
def test_the_clipped_step_never_exceeds_its_bound(distance, tau, own):
    factor = weights.clip(distance, tau, own)
    assert 0 <= factor <= UNIT_E9
    assert factor * distance <= min(5 * tau / 3, 6 * own) * UNIT_E9 * (1 + 1e-12) or (
        factor == UNIT_E9 and 3 * distance <= min(5 * tau, 18 * own)
    )


def test_a_saturated_distance_gets_nothing():
    assert weights.clip(CEILING_E9, CEILING_E9, CEILING_E9) == 0
    assert weights.clip(0, 0, 0) == UNIT_E9
    assert weights.clip(5, 0, 10) == 0


def test_an_echo_and_a_copy_have_no_share():
    mine = (b"before", b"trained")
    assert weights.share(b"theirs", mine, copied=False) == UNIT_E9
    assert weights.share(b"theirs", mine, copied=True) == 0
    assert [weights.share(art, mine, copied=False) for art in mine] == [0, 0]
