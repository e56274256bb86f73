"""A whole round: what its candidates say together, one number at a time.

The definition of the trusted thirds, medians and scales, in plain integers and without numpy, for
whoever checks a ledger. `konsil.trust.medians` computes the same for arrays, for a worker's round
and a simulator's thousands; a test holds them equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust import score, weights
from konsil.trust.fixed import CEILING_E9, UNIT_E9, product

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPECTED_STEPS = 4
"""How many own steps apart two honest models may well be; the receiver's voice in medians."""

THIRD, HALF = 3, 2
"""A trusted part: which share of all voices lies at or below it."""

SURE_ERRORS = 3
"""S is at least so many standard errors of the gain: below one of them, harm is not shown."""

FAINTEST_VOICE_E9 = 50_000_000
"""Nobody who is there is quite unheard."""


def voice(trust: int, share: int) -> int:
    """How loud a candidate is: ``clip((T - 0.3) / 0.2, 0, 1)`` times its share, 0.05 at least.

    T is the trust before this round; the share keeps copies from making up a majority.
    """
    return max(product(weights.gate(trust), share), FAINTEST_VOICE_E9)


def trusted_part(values: Sequence[int], voices: Sequence[int], part: int) -> int:
    """The smallest value at which the cumulative voice exceeds the `part`-th of the total, or of
    a half reaches it; 0 of nobody.
    """
    total = sum(voices)
    least = total + (part != HALF)
    reached = 0
    for value, loud in sorted(zip(values, voices, strict=True)):
        reached += loud
        if part * reached >= least:
            return value
    return 0


def bounds(
    distances: Sequence[int], reaches: Sequence[int], own_e9: int, voices: Sequence[int]
) -> tuple[int, int]:
    """`(tau, rho)` of one round from its candidates' distances and voices.

    Both are trusted thirds in which the receiver has a voice too: it says `EXPECTED_STEPS`
    times its own step. Among two or three neighbours the nearest alone would else be the
    measure of all, and whoever merely has other patients be cast out (docs/adr/0009). A third
    and not the median, because attackers who lie far off are the majority around some
    hospitals, and there a median is theirs (docs/adr/0016).
    """
    expected, heard = EXPECTED_STEPS * own_e9, (*voices, voice(score.NEUTRAL_E9, UNIT_E9))
    tau = trusted_part((*distances, expected), heard, THIRD)
    return tau, min(trusted_part((*reaches, expected), heard, THIRD), 6 * own_e9)


def excuses(gains: Sequence[int], errors: Sequence[int], voices: Sequence[int]) -> tuple[int, ...]:
    """For each candidate how much harm the *others* do too: ``min(max(-median g, 0), error)``.

    What a small holdout has against nearly everybody it has by chance, and more so the longer
    the receiver has trained on its own patients. Without this a few such hospitals cast
    everybody out, drift away, and find everybody harmful for it. One standard error at most, so
    that a majority of attackers does not excuse itself (docs/adr/0016).
    """
    found = []
    for place, error in enumerate(errors):
        others = [*gains[:place], *gains[place + 1 :]]
        heard = [*voices[:place], *voices[place + 1 :]]
        found.append(min(max(-trusted_part(others, heard, HALF), 0), error))
    return tuple(found)


def gain_scales(
    gains: Sequence[int], errors: Sequence[int], voices: Sequence[int]
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
        heard = [*voices[:place], *voices[place + 1 :]]
        median = trusted_part(others, heard, HALF) if others else size
        scales.append(min(max(median * 14826 // 10000, SURE_ERRORS * error), CEILING_E9))
    return tuple(scales)
