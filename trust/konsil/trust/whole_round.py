"""A whole round: what its candidates say together, one number at a time.

The definition of the trusted medians and scales, in plain integers and without numpy, for whoever
checks a ledger. `konsil.trust.medians` computes the same for arrays, for a worker's round and a
simulator's thousands; a test holds them equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust import score, weights
from konsil.trust.fixed import CEILING_E9

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPECTED_STEPS = 4
"""How many own steps apart two honest models may well be; the receiver's voice in medians."""

SURE_ERRORS = 3
"""S is at least so many standard errors of the gain: below 2.25 of them, harm is not shown."""

FAINTEST_VOICE_E9 = 50_000_000
"""Nobody who is there is quite unheard."""


def trusted_median(values: Sequence[int], trusts: Sequence[int]) -> int:
    """The smallest value at which the cumulative voice reaches half the total; 0 of nobody.

    A candidate's voice is ``clip((T - 0.3) / 0.2, 0.05, 1)``, T being the trust before this
    round.
    """
    voices = (max(weights.gate(trust), FAINTEST_VOICE_E9) for trust in trusts)
    pairs = sorted(zip(values, voices, strict=True))
    total = sum(voice for _, voice in pairs)
    reached = 0
    for value, voice in pairs:
        reached += voice
        if 2 * reached >= total:
            return value
    return 0


def bounds(
    distances: Sequence[int], reaches: Sequence[int], own_e9: int, trusts: Sequence[int]
) -> tuple[int, int]:
    """`(tau, rho)` of one round from its candidates' distances and trusts before it.

    Both are trusted medians in which the receiver has a voice too: it says `EXPECTED_STEPS`
    times its own step. Among two or three neighbours a plain median names the nearest as
    the measure of all, and casts out whoever merely has other patients (docs/adr/0009).
    """
    expected, heard = EXPECTED_STEPS * own_e9, (*trusts, score.NEUTRAL_E9)
    tau = trusted_median((*distances, expected), heard)
    return tau, min(trusted_median((*reaches, expected), heard), 6 * own_e9)


def gain_scales(
    gains: Sequence[int], errors: Sequence[int], trusts: Sequence[int]
) -> tuple[int, ...]:
    """S for each candidate: 1.4826 times the trusted median of the *other* candidates' |g|.

    Nobody sets the scale by which it is judged; one that is alone is judged by its own. The
    scale has no memory: gains shrink as models converge, and one that remembers the first
    rounds, or one absurd gain, hides the harm of all later ones. It is never less than
    `SURE_ERRORS` standard errors of the gain itself: what a small holdout cannot tell from
    nothing is no harm (docs/adr/0009).
    """
    sizes = [abs(gain) for gain in gains]
    scales = []
    for place, (size, error) in enumerate(zip(sizes, errors, strict=True)):
        others = sizes[:place] + sizes[place + 1 :]
        heard = [*trusts[:place], *trusts[place + 1 :]]
        median = trusted_median(others, heard) if others else size
        scales.append(min(max(median * 14826 // 10000, SURE_ERRORS * error), CEILING_E9))
    return tuple(scales)
