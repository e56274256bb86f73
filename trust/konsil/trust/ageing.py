"""Ageing: what a node knows of a peer fades with time, back to what it would think of a newcomer.

Whole days since the log began are counted, at each training, so that an auditor finds the same
days in the times of the entries; a short run never meets the end of a day. A day takes the same
part of all evidence, rounded down: to age by two days is to age by one, twice, exactly.
"""

from __future__ import annotations

from konsil.trust.fixed import UNIT_E9
from konsil.trust.score import Score

HALF_LIFE_DAYS = 30
"""After so many days half of the evidence is left (trust.md, step 4)."""
DAY_MS = 86_400_000
KEPT_E9 = 977_159_968
"""What a day leaves of evidence, in 1e-9: ``2 ** (-1 / 30)``, rounded."""


def day_of(begun_ms: int, now_ms: int) -> int:
    """Whole days since a log's first entry; 0 for a moment before it."""
    return max(0, now_ms - begun_ms) // DAY_MS


def aged(score: Score, days: int) -> Score:
    """The score after so many days without new evidence.

    >>> aged(Score(r_e9=4 * UNIT_E9, s_e9=UNIT_E9), HALF_LIFE_DAYS)
    Score(r_e9=1999999962, s_e9=499999982)
    """
    r, s = score.r_e9, score.s_e9
    for _ in range(days):
        if not (r or s):
            break
        r, s = r * KEPT_E9 // UNIT_E9, s * KEPT_E9 // UNIT_E9
    return Score(r_e9=r, s_e9=s)
