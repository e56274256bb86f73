"""Evidence: what one artifact did to a node, and the weight that follows, step by step.

The worker measures four things with private rows and tensors: distances, the own step, and
the gain `g` on the private holdout. They are quantised to integers in 1e-9 at once, and all
that follows (trust.md, steps 1, 2, 4 to 7) is computed here from those integers. So anyone
who holds an `EvidenceRecord` recomputes its weight exactly; the measurement itself can be
repeated only inside the hospital.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeAlias

import msgspec
from msgspec import Meta

from konsil.protocol.records import DigestField
from konsil.trust import score, weights, whole_round
from konsil.trust.fixed import (
    CEILING_E9,
    UNIT_E9,
    Amount,
    choose,
    greater,
    lesser,
    normal_cdf,
    product,
    ratio,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

BENEFIT_OF_DOUBT_E9 = 750_000_000
"""Added to z in the functional evidence, so that a peer that does no harm is believed."""

UNPINNED = -1
"""In place of a gate that an operator set."""

Fraction: TypeAlias = Annotated[int, Meta(ge=0, le=UNIT_E9)]
"""A number between 0 and 1, in 1e-9."""
Size: TypeAlias = Annotated[int, Meta(ge=0, le=CEILING_E9)]
"""A distance, scale or amount of evidence, in 1e-9."""
Gain: TypeAlias = Annotated[int, Meta(ge=-CEILING_E9, le=CEILING_E9)]
"""A difference of two losses, in 1e-9."""
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**32)]


class EvidenceRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why one artifact got its weight in one round of one receiver; `reason` sums it up.

    Measured or given: everything down to `step_e9`. The rest follows, by `recompute`.
    `konsil.protocol.records.unpack` refuses a record with a value out of its range.
    """

    v: Literal[1] = 1
    node: str
    art: DigestField
    kind: str
    round: Count
    before: DigestField
    """The receiver's model before its local steps (a)."""
    trained: DigestField
    """The receiver's model after them (x)."""
    lag: Count
    own_e9: Size
    """The length of the receiver's own step, ``|x - a|``."""
    reach_e9: Size
    """``|x_j - a|``."""
    rho_e9: Size
    """The bound on the trial step: ``min(trusted third of reach, 6 own)``."""
    g_e9: Gain
    """The gain: how far the trial step towards the artifact lowers the private loss; of answers,
    how far they agree beyond what is asked of a teacher."""
    error_e9: Size
    """The standard error of the gain over the rows of the holdout, or of the question."""
    excused_e9: Size
    """How much of the harm the others do too, one standard error at most."""
    scale_e9: Size
    """How large a gain of this round usually is, and at least some errors of it (S)."""
    d_e9: Size
    """``|x_j - x|``."""
    tau_e9: Size
    """The trusted third of d."""
    r_before_e9: Size
    s_before_e9: Size
    base_rate_e9: Fraction = score.NEUTRAL_E9
    share_e9: Fraction = UNIT_E9
    metropolis_e9: Fraction
    pinned_e9: Fraction | None = None
    """A gate value set by the operator; it stands in for the evidence's."""
    step_e9: Fraction
    """The part of the whole step that the loss guard let through."""
    p_f_e9: Fraction = 0
    p_g_e9: Fraction = 0
    q_e9: Fraction = 0
    r_after_e9: Size = 0
    s_after_e9: Size = 0
    trust_before_e9: Fraction = 0
    trust_e9: Fraction = 0
    gate_e9: Fraction = 0
    lag_factor_e9: Fraction = 0
    clip_e9: Fraction = 0
    w_e9: Fraction = 0
    """The effective coefficient of this artifact in the mix."""
    reason: str = ""


def functional(
    gain_e9: Amount,
    scale_e9: Amount,
    gate_e9: Amount | int = UNIT_E9,
    excused_e9: Amount | int = 0,
) -> Amount:
    """The belief that the artifact does no harm: ``Phi((g + gate e) / S + 0.75 gate)``.

    `gate_e9` is the peer's gate before this round, `excused_e9` (e) the harm that the others do
    too. Excuse and benefit of the doubt are spent by harm done: whoever stands distrusted has
    to help, not merely to do nothing (docs/adr/0009, 0016).
    """
    doubt = gate_e9 * BENEFIT_OF_DOUBT_E9 // UNIT_E9
    # A part of a thousandth, because an excuse times a gate may need more than 64 bits.
    excused = excused_e9 // 1000 * (gate_e9 // 1_000_000)
    return normal_cdf(ratio(gain_e9 + excused, greater(scale_e9, 1)) + doubt)


def geometric(distance_e9: Amount, tau_e9: Amount) -> Amount:
    """The belief from its distance: ``min(1, (5/3 tau / d)**2)``. This tau is never capped."""
    way = greater(3 * distance_e9, 1)
    nearness = ratio(lesser(5 * tau_e9, way), way)
    near: Amount = choose(3 * distance_e9 <= 5 * tau_e9, UNIT_E9, nearness)
    return product(near, near)


class Measures(msgspec.Struct, Generic[Amount], frozen=True, kw_only=True):
    """What was measured or given about one candidate, or about arrays of them."""

    lag: Amount
    own_e9: Amount
    g_e9: Amount
    excused_e9: Amount
    d_e9: Amount
    r_e9: Amount
    s_e9: Amount
    base_rate_e9: Amount
    share_e9: Amount
    metropolis_e9: Amount
    pinned_e9: Amount
    """A gate value set by the operator; `UNPINNED` where there is none."""


class Weighed(msgspec.Struct, Generic[Amount], frozen=True, kw_only=True):
    """What follows from `Measures`; the names are those of `EvidenceRecord`."""

    trust_before_e9: Amount
    p_f_e9: Amount
    p_g_e9: Amount
    q_e9: Amount
    r_after_e9: Amount
    s_after_e9: Amount
    trust_e9: Amount
    gate_e9: Amount
    lag_factor_e9: Amount
    clip_e9: Amount
    w_e9: Amount


def weigh(
    measures: Measures[Amount], scale_e9: Amount, tau_e9: Amount, step_e9: Amount
) -> Weighed[Amount]:
    """Steps 1, 2 and 4 to 7 of the rule, for one candidate or for arrays of them."""
    m = measures
    before = score.mean(m.r_e9, m.s_e9, m.base_rate_e9)
    gate_before = weights.gate(before)
    p_f = functional(m.g_e9, scale_e9, gate_before, m.excused_e9)
    p_g = geometric(m.d_e9, tau_e9)
    q = product(p_f, p_g)
    r, s = score.after(m.r_e9, m.s_e9, q, gate_before == 0)
    trust = score.mean(r, s, m.base_rate_e9)
    opened = lesser(weights.gate(trust), weights.opening(q))
    gate: Amount = choose(m.pinned_e9 == UNPINNED, opened, m.pinned_e9)
    lag_factor = weights.staleness(m.lag)
    clip = weights.clip(m.d_e9, tau_e9, m.own_e9)
    return Weighed(
        trust_before_e9=before,
        p_f_e9=p_f,
        p_g_e9=p_g,
        q_e9=q,
        r_after_e9=r,
        s_after_e9=s,
        trust_e9=trust,
        gate_e9=gate,
        lag_factor_e9=lag_factor,
        clip_e9=clip,
        w_e9=product(m.metropolis_e9, gate, m.share_e9, lag_factor, clip, step_e9),
    )


def recompute(record: EvidenceRecord) -> EvidenceRecord:
    """The record with everything that follows from its measurements computed anew.

    An auditor compares the result with the record: equal means that the weight is right.
    """
    measures = Measures(
        lag=record.lag,
        own_e9=record.own_e9,
        g_e9=record.g_e9,
        excused_e9=record.excused_e9,
        d_e9=record.d_e9,
        r_e9=record.r_before_e9,
        s_e9=record.s_before_e9,
        base_rate_e9=record.base_rate_e9,
        share_e9=record.share_e9,
        metropolis_e9=record.metropolis_e9,
        pinned_e9=UNPINNED if record.pinned_e9 is None else record.pinned_e9,
    )
    weighed = weigh(measures, record.scale_e9, record.tau_e9, record.step_e9)
    anew = msgspec.structs.replace(record, **msgspec.structs.asdict(weighed))
    return msgspec.structs.replace(anew, reason=reason_of(anew))


def disagreements(records: Sequence[EvidenceRecord], *, whole: bool = True) -> tuple[str, ...]:
    """What does not follow from the measurements in all the records of one round; empty is well.

    Checks each record against `recompute`, that all speak of the same round, and what follows
    from all of the round's candidates together: tau, rho and the scales. These are left out
    where some records may be missing (`whole` is False).
    """
    found = []
    for record in records:
        anew = recompute(record)
        for field in record.__struct_fields__:
            said, follows = getattr(record, field), getattr(anew, field)
            if said != follows:
                found.append(f"{record.node}: {field} is {said}, but {follows} follows")
    for field in _SHARED:
        if len({getattr(record, field) for record in records}) > 1:
            found.append(f"the records differ in {field}")
    if found or not records or not whole:
        return tuple(found)
    return _apart(records)


def _apart(records: Sequence[EvidenceRecord]) -> tuple[str, ...]:
    """What all the candidates of a round say together, held against what each record says."""
    first = records[0]
    voices = [whole_round.voice(r.trust_before_e9, r.share_e9) for r in records]
    tau, rho = whole_round.bounds(
        [r.d_e9 for r in records], [r.reach_e9 for r in records], first.own_e9, voices
    )
    found = [
        f"{field} is {getattr(first, field)}, but {follows} follows"
        for field, follows in (("tau_e9", tau), ("rho_e9", rho))
        if getattr(first, field) != follows
    ]
    gains, errors = [r.g_e9 for r in records], [r.error_e9 for r in records]
    apart = {
        "scale_e9": whole_round.gain_scales(gains, errors, voices),
        "excused_e9": whole_round.excuses(gains, errors, voices),
    }
    for field, follow in apart.items():
        for record, follows in zip(records, follow, strict=True):
            said = getattr(record, field)
            if said != follows:
                found.append(f"{record.node}: {field} is {said}, but {follows} follows")
    return tuple(found)


def reason_of(record: EvidenceRecord) -> str:
    """The first factor that took weight away, as one word."""
    if record.pinned_e9 is not None:
        return "muted" if record.pinned_e9 == 0 else "pinned"
    if record.gate_e9 == 0:
        return "harmful" if weights.gate(record.trust_e9) else "distrusted"
    if record.share_e9 < UNIT_E9:
        return "copy"
    if record.step_e9 < UNIT_E9:
        return "guarded"
    if record.gate_e9 < UNIT_E9:
        return "doubted"
    return "clipped" if record.clip_e9 < UNIT_E9 else "granted"


_SHARED = (
    "kind", "round", "before", "trained", "own_e9", "rho_e9", "tau_e9", "step_e9",
)  # fmt: skip
