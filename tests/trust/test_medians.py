"""Trusted medians over arrays: hand-computed rounds, and laws against a plain loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from konsil.trust import evidence, medians, weights, whole_round
from konsil.trust.fixed import CEILING_E9, UNIT_E9

HALF = UNIT_E9 // 2


def heard(trusts) -> np.ndarray:
    """The voices of candidates who are all there."""
    column = np.array(trusts, dtype=np.int64)
    return medians.voices(column, np.ones(len(column), dtype=bool))


def median(values, trusts) -> int:
    found = medians.trusted_median(np.array(values, dtype=np.int64), heard(trusts))
    assert int(found) == whole_round.trusted_median(values, trusts)
    return int(found)


def tau_of(distances, own) -> int:
    return medians.bounds_of(distances, distances, own, [HALF] * len(distances))[0]


candidates = st.tuples(
    st.integers(-CEILING_E9, CEILING_E9), st.integers(0, CEILING_E9), st.integers(0, UNIT_E9),
    st.booleans(),
)  # fmt: skip


@given(st.lists(st.lists(candidates, max_size=7), min_size=1, max_size=4), st.integers(0, 10**12))
def test_every_row_of_an_array_is_the_definition_of_one_round(rounds, own):
    """What workers and simulators compute is what an auditor computes, with places left empty."""
    widest = max(map(len, rounds))
    empty = (0, 0, 0, False)
    padded = np.array([row + [empty] * (widest - len(row)) for row in rounds], dtype=np.int64)
    gains, sizes, trusts, here = np.moveaxis(padded.reshape(len(rounds), widest, 4), -1, 0)
    voices = medians.voices(trusts, here.astype(bool))
    tau, rho = medians.bounds(sizes, np.abs(gains), np.full(len(rounds), own), voices)
    scales = medians.gain_scales(gains, sizes, voices)
    for place, row in enumerate(rounds):
        present = [one for one in row if one[3]]
        gained, far, trusted, _ = zip(*present, strict=True) if present else ((), (), (), ())
        wanted = whole_round.bounds(far, [abs(gain) for gain in gained], own, trusted)
        assert (int(tau[place]), int(rho[place])) == wanted
        found = [int(scale) for scale, one in zip(scales[place], row, strict=False) if one[3]]
        assert found == list(whole_round.gain_scales(gained, far, trusted))


def test_trusted_median():
    equal = [HALF] * 5
    assert median([5, 1, 4, 2, 3], equal) == 3
    assert median([1, 2], equal[:2]) == 1
    assert median([], []) == 0
    distrusted = [0, 0, 0, UNIT_E9, UNIT_E9]
    assert median([900, 901, 902, 4, 5], distrusted) == 5


def test_distrusted_peers_keep_a_faint_voice_and_nobody_has_none():
    assert median([7, 8, 9], [0, 0, 0]) == 8
    absent = medians.voices(np.full(3, HALF), np.array([True, False, False]))
    assert int(medians.trusted_median(np.array([7, 1, 2]), absent)) == 7


def test_the_scale_of_a_gain_is_this_rounds_own():
    trusts, sure = [HALF] * 3, [0, 0, 0]
    assert medians.gain_scales_of([-3000, 2000, 1000], sure, trusts) == [1482, 1482, 2965]
    assert medians.gain_scales_of([-(10**14), 2000, 1000], sure, trusts)[0] == 1482
    assert medians.gain_scales_of([-3000], [0], trusts[:1]) == [4447]
    # An absurd artifact must not yield a scale that no record can hold.
    assert medians.gain_scales_of([-CEILING_E9], [0], trusts[:1]) == [CEILING_E9]
    assert medians.gain_scales_of([], [], []) == []


def test_the_scale_is_at_least_the_gains_own_error():
    """Three gains near nothing on a small holdout: none of them is harm that was shown."""
    trusts = [HALF] * 3
    found = medians.gain_scales_of([-5000, 100, 50], [6000, 0, 300], trusts)
    assert found == [18000, 74, 900]
    sure = medians.gain_scales_of([-5000, 100, 50], [0, 0, 300], trusts)
    assert evidence.functional(-5000, sure[0]) == 0
    assert evidence.functional(-5000, found[0]) > HALF


def test_one_of_two_neighbours_is_not_cast_out_for_having_other_patients():
    """Heart disease, va in its first round: Cleveland is four times as far as Switzerland."""
    own, near, far = 300_000_000, 153_000_000, 571_000_000
    assert evidence.geometric(far, tau_of([near, far], own)) == UNIT_E9


def test_a_model_far_beyond_the_own_step_is_still_suspect():
    own, near, far = 318_000_000, 386_000_000, 2_948_000_000
    assert evidence.geometric(far, tau_of([near, near, far], own)) < HALF


def test_voices_follow_the_gate():
    loud = heard([0, 300_000_000, 400_000_000, UNIT_E9]).tolist()
    assert loud == [50_000_000, 50_000_000, HALF, UNIT_E9]
    assert loud[2] == weights.gate(400_000_000)
