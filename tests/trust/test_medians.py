"""Trusted medians over arrays: hand-computed rounds, and laws against a plain loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from konsil.trust import evidence, medians, weights, whole_round
from konsil.trust.fixed import CEILING_E9, UNIT_E9

HALF = UNIT_E9 // 2


def heard(trusts) -> np.ndarray:
    """The voices of candidates who are all there, none of them a copy."""
    column = np.array(trusts, dtype=np.int64)
    alone = np.full_like(column, UNIT_E9)
    return medians.voices(column, alone, np.ones(len(column), dtype=bool))


def part_of(values, trusts, part) -> int:
    loud = heard(trusts)
    found = medians.trusted_part(np.array(values, dtype=np.int64), loud, part)
    assert int(found) == whole_round.trusted_part(values, loud.tolist(), part)
    return int(found)


def median(values, trusts) -> int:
    return part_of(values, trusts, whole_round.HALF)


def tau_of(distances, own) -> int:
    return medians.bounds_of(distances, distances, own, [UNIT_E9] * len(distances))[0]


candidates = st.tuples(
    st.integers(-CEILING_E9, CEILING_E9), st.integers(0, CEILING_E9), st.integers(0, UNIT_E9),
    st.sampled_from([0, UNIT_E9 // 2, UNIT_E9]), st.booleans(),
)  # fmt: skip


@given(st.lists(st.lists(candidates, max_size=7), min_size=1, max_size=4), st.integers(0, 10**12))
def test_every_row_of_an_array_is_the_definition_of_one_round(rounds, own):
    """What workers and simulators compute is what an auditor computes, with places left empty."""
    widest = max(map(len, rounds))
    empty = (0, 0, 0, 0, False)
    padded = np.array([row + [empty] * (widest - len(row)) for row in rounds], dtype=np.int64)
    columns = np.moveaxis(padded.reshape(len(rounds), widest, 5), -1, 0)
    gains, sizes, trusts, shares, here = columns
    voices = medians.voices(trusts, shares, here.astype(bool))
    tau, rho = medians.bounds(sizes, np.abs(gains), np.full(len(rounds), own), voices)
    scales = medians.gain_scales(gains, sizes, voices)
    excused = medians.excuses(gains, sizes, voices)
    for place, row in enumerate(rounds):
        present = [one for one in row if one[4]]
        gained, far = [one[0] for one in present], [one[1] for one in present]
        loud = [whole_round.voice(one[2], one[3]) for one in present]
        wanted = whole_round.bounds(far, [abs(gain) for gain in gained], own, loud)
        assert (int(tau[place]), int(rho[place])) == wanted
        found = [int(scale) for scale, one in zip(scales[place], row, strict=False) if one[4]]
        assert found == list(whole_round.gain_scales(gained, far, loud))
        found = [int(one[0]) for one in zip(excused[place], row, strict=False) if one[1][4]]
        assert found == list(whole_round.excuses(gained, far, loud))


def test_trusted_median():
    equal = [HALF] * 5
    assert median([5, 1, 4, 2, 3], equal) == 3
    assert median([1, 2], equal[:2]) == 1
    assert median([], []) == 0
    distrusted = [0, 0, 0, UNIT_E9, UNIT_E9]
    assert median([900, 901, 902, 4, 5], distrusted) == 5


def test_distrusted_peers_keep_a_faint_voice_and_nobody_has_none():
    assert median([7, 8, 9], [0, 0, 0]) == 8
    absent = medians.voices(np.full(3, HALF), np.full(3, UNIT_E9), np.array([True, False, False]))
    assert int(medians.trusted_part(np.array([7, 1, 2]), absent, whole_round.HALF)) == 7


def test_a_third_is_exceeded_and_not_merely_reached():
    equal = [HALF] * 6
    assert part_of([1, 2, 3, 40, 50, 60], equal, whole_round.THIRD) == 3
    assert part_of([1, 2, 3], equal[:3], whole_round.THIRD) == 2
    assert part_of([], [], whole_round.THIRD) == 0


def test_attackers_far_off_are_not_the_measure_where_they_are_the_majority():
    """Breast cancer, a hospital of four patients, three of six neighbours flip labels."""
    own, honest, lying = 720_000_000, [424, 650, 290], [1813, 1837, 1793]
    tau = tau_of([one * 10**6 for one in honest + lying], own)
    assert tau == 650_000_000
    assert [evidence.geometric(one * 10**6, tau) == UNIT_E9 for one in honest] == [True] * 3
    assert all(evidence.geometric(one * 10**6, tau) < HALF for one in lying)


def test_copies_make_no_majority():
    own, distances = 10**8, [10**8, 2 * 10**8, 3 * 10**8, *[9 * 10**8] * 6]
    voices = [whole_round.voice(HALF, share) for share in [UNIT_E9] * 4 + [0] * 5]
    assert medians.bounds_of(distances, distances, own, voices)[0] == 2 * 10**8
    alone = [whole_round.voice(HALF, UNIT_E9)] * 9
    assert medians.bounds_of(distances, distances, own, alone)[0] == 4 * 10**8


def test_the_scale_of_a_gain_is_this_rounds_own():
    loud, sure = [UNIT_E9] * 3, [0, 0, 0]
    assert medians.gain_scales_of([-3000, 2000, 1000], sure, loud) == [1482, 1482, 2965]
    assert medians.gain_scales_of([-(10**14), 2000, 1000], sure, loud)[0] == 1482
    assert medians.gain_scales_of([-3000], [0], loud[:1]) == [4447]
    # An absurd artifact must not yield a scale that no record can hold.
    assert medians.gain_scales_of([-CEILING_E9], [0], loud[:1]) == [CEILING_E9]
    assert medians.gain_scales_of([], [], []) == []


def test_the_scale_is_at_least_the_gains_own_error():
    """Three gains near nothing on a small holdout: none of them is harm that was shown."""
    loud = [UNIT_E9] * 3
    found = medians.gain_scales_of([-5000, 100, 50], [6000, 0, 300], loud)
    assert found == [18000, 74, 900]
    sure = medians.gain_scales_of([-5000, 100, 50], [0, 0, 300], loud)
    assert evidence.functional(-5000, sure[0]) == 0
    assert evidence.functional(-5000, found[0]) > HALF


def test_what_nearly_everybody_does_is_excused_up_to_one_error():
    loud = [UNIT_E9] * 3
    assert medians.excuses_of([-5000, -300, -400], [900] * 3, loud) == [400, 900, 900]
    assert medians.excuses_of([-5000, 100, 200], [900] * 3, loud) == [0, 900, 900]
    assert medians.excuses_of([-5000], [900], loud[:1]) == [0]


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
