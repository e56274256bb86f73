"""Score: what a node remembers of a peer, and the trust that follows (trust.md, steps 4, 5).

Evidence for (`r`) and against (`s`) decays with each artifact; harm counts one and a half
times. Trust is the mean of a Beta distribution whose prior has weight 2.
Monotone: better evidence never lowers trust, and no refusal ever raises it. Keyed by the
organisation, so that a new address or key starts with the old record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import LocalProtocolError
from konsil.trust.fixed import UNIT_E9, choose, greater, ratio

if TYPE_CHECKING:
    from konsil.trust.fixed import Amount, Truths

NEUTRAL_E9 = UNIT_E9 // 2
"""The base rate of a peer about whom nobody has said anything."""

PENALTY_E9 = 5 * UNIT_E9
"""Added to `s` when the hard gate refuses an artifact."""


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Evidence about one peer and one kind of artifact; both zero for a newcomer."""

    r_e9: int = 0
    """Evidence that mixing with the peer is harmless."""
    s_e9: int = 0
    """Evidence of harm."""


def learned(score: Score, q_e9: int, *, refused: bool = False) -> Score:
    """The score after one artifact of quality `q_e9` in [0, 1e9]; see `after`.

    Raises `LocalProtocolError` on a quality outside that range.
    """
    if not 0 <= q_e9 <= UNIT_E9:
        raise LocalProtocolError(f"a quality of {q_e9} is outside 0 … 10**9")
    r, s = after(score.r_e9, score.s_e9, q_e9, refused)
    return Score(r_e9=r, s_e9=s)


def after(
    r_e9: Amount, s_e9: Amount, q_e9: Amount, refused: bool | Truths
) -> tuple[Amount, Amount]:
    """`(r, s)` after one artifact of quality `q_e9`; older evidence fades by 4 %.

    Of a peer whose gate was closed before (`refused`) only what speaks clearly counts: how far
    its quality is from one half, doubled. Doing nothing for a while then undoes no harm, and
    adds none (docs/adr/0009).
    """
    good, bad = q_e9, UNIT_E9 - q_e9
    clear = good - bad
    good = choose(refused, greater(clear, 0), good)
    bad = choose(refused, greater(-clear, 0), bad)
    return _faded(r_e9) + good, _faded(s_e9) + 3 * bad // 2


def penalised(score: Score) -> Score:
    """The score after the hard gate refused an artifact."""
    return Score(r_e9=score.r_e9, s_e9=score.s_e9 + PENALTY_E9)


def trust(score: Score, base_rate_e9: int = NEUTRAL_E9) -> int:
    """Trust in [0, 1e9] of a score.

    >>> trust(Score()), trust(Score(r_e9=3 * UNIT_E9, s_e9=0))
    (500000000, 800000000)
    """
    return mean(score.r_e9, score.s_e9, base_rate_e9)


def mean(r_e9: Amount, s_e9: Amount, base_rate_e9: Amount | int = NEUTRAL_E9) -> Amount:
    """Trust in [0, 1e9] of evidence `r` and `s`: ``(r + 2a) / (r + s + 2)``."""
    return ratio(r_e9 + 2 * base_rate_e9, r_e9 + s_e9 + 2 * UNIT_E9)


def _faded(evidence_e9: Amount) -> Amount:
    return (96 * evidence_e9 + 50) // 100
