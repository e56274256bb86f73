"""Trusted medians: what most of a round's candidates show, each heard as it is trusted.

What `konsil.trust.whole_round` defines for one round, for arrays of int64 with the candidates of
one receiver along the last axis; a place whose voice is 0 is nobody. A worker's round is one row,
a simulator's is as many as it has nodes. Only who holds arrays imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.trust import score, weights, whole_round
from konsil.trust.fixed import CEILING_E9, product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.trust.fixed import Integers, Truths

_NOBODY = np.iinfo(np.int64).max


def voices(trusts_e9: Integers, shares_e9: Integers, present: Truths) -> Integers:
    """`whole_round.voice` of each candidate; 0 where there is nobody."""
    loud = product(weights.gate(trusts_e9), shares_e9)
    return np.where(present, np.maximum(loud, whole_round.FAINTEST_VOICE_E9), 0)


def trusted_part(values: Integers, voices_e9: Integers, part: int) -> Integers:
    """See `whole_round.trusted_part`; shapes (…, k) to (…)."""
    if values.shape[-1] == 0:
        return np.zeros(values.shape[:-1], dtype=np.int64)
    order = np.argsort(np.where(voices_e9 > 0, values, _NOBODY), axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    reached = np.cumsum(np.take_along_axis(voices_e9, order, axis=-1), axis=-1)
    total = reached[..., -1:]
    least = total + (part != whole_round.HALF)
    place = np.argmax(part * reached >= least, axis=-1, keepdims=True)
    median = np.take_along_axis(ranked, place, axis=-1)
    return np.where(total > 0, median, 0)[..., 0]


def bounds(
    distances: Integers, reaches: Integers, own_e9: Integers, voices_e9: Integers
) -> tuple[Integers, Integers]:
    """`(tau, rho)` of rounds: shapes (…, k), and (…) for `own_e9` and the results."""
    expected = (whole_round.EXPECTED_STEPS * own_e9)[..., None]
    newcomer = weights.gate(np.full_like(expected, score.NEUTRAL_E9))
    heard = np.concatenate([voices_e9, newcomer], axis=-1)
    both = np.stack(
        [np.concatenate([values, expected], axis=-1) for values in (distances, reaches)]
    )
    tau, rho = trusted_part(both, np.broadcast_to(heard, both.shape), whole_round.THIRD)
    return tau, np.minimum(rho, 6 * own_e9)


def excuses(gains: Integers, errors: Integers, voices_e9: Integers) -> Integers:
    """See `whole_round.excuses`; shapes (…, k)."""
    common = np.maximum(-_medians_of_others(gains, voices_e9), 0)
    return np.minimum(common, errors)


def gain_scales(gains: Integers, errors: Integers, voices_e9: Integers) -> Integers:
    """S of each candidate: shapes (…, k)."""
    sizes = np.abs(gains)
    alone = np.count_nonzero(voices_e9, axis=-1, keepdims=True) < 2
    median = np.where(alone, sizes, _medians_of_others(sizes, voices_e9))
    wide = median // 10000 * 14826 + median % 10000 * 14826 // 10000
    scales: Integers = np.minimum(np.maximum(wide, whole_round.SURE_ERRORS * errors), CEILING_E9)
    return scales


def _medians_of_others(values: Integers, voices_e9: Integers) -> Integers:
    """For each place (…, k) the trusted median of all others.

    All are put in order once. With the voice v of a place left out of the total T, half of the
    rest is reached where twice the sum of voices comes to T - v before that place, else where it
    comes to T + v behind it. Each sum is compared with all voices: k times k comparisons.
    """
    order = np.argsort(np.where(voices_e9 > 0, values, _NOBODY), axis=-1, kind="stable")
    ranked = np.take_along_axis(values, order, axis=-1)
    reached = 2 * np.cumsum(np.take_along_axis(voices_e9, order, axis=-1), axis=-1)
    total = reached[..., -1:] // 2
    rank = np.argsort(order, axis=-1)
    before, behind = np.zeros_like(rank), np.zeros_like(rank)
    for place in range(values.shape[-1]):
        so_far = reached[..., place : place + 1]
        before += so_far < total - voices_e9
        behind += so_far < total + voices_e9
    found = np.where(before < rank, before, behind)
    last = values.shape[-1] - 1
    medians = np.take_along_axis(ranked, np.minimum(found, last), axis=-1)
    return np.where(total > voices_e9, medians, 0)


def bounds_of(
    distances: Sequence[int], reaches: Sequence[int], own_e9: int, voices_e9: Sequence[int]
) -> tuple[int, int]:
    """`bounds` of a single round, its candidates given as lists."""
    far, way = _column(distances), _column(reaches)
    tau, rho = bounds(far, way, np.array(own_e9), _column(voices_e9))
    return int(tau), int(rho)


def excuses_of(gains: Sequence[int], errors: Sequence[int], voices_e9: Sequence[int]) -> list[int]:
    """`excuses` of a single round, its candidates given as lists."""
    found: list[int] = excuses(_column(gains), _column(errors), _column(voices_e9)).tolist()
    return found


def gain_scales_of(
    gains: Sequence[int], errors: Sequence[int], voices_e9: Sequence[int]
) -> list[int]:
    """`gain_scales` of a single round, its candidates given as lists."""
    heard = _column(voices_e9)
    scales: list[int] = gain_scales(_column(gains), _column(errors), heard).tolist()
    return scales


def _column(values: Sequence[int]) -> Integers:
    return np.array(values, dtype=np.int64)
