"""Evidence: what one artifact did to a node, and the weight that follows, step by step.

The worker measures four things with private rows and tensors: distances, the own step, and
the gain `g` on the private holdout. They are quantised to integers in 1e-9 at once, and all
that follows (trust.md, steps 1, 2, 4 to 7) is computed here from those integers. So anyone
who holds an `EvidenceRecord` recomputes its weight exactly; the measurement itself can be
repeated only inside the hospital.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
from msgspec import Meta

from konsil.protocol.records import DigestField
from konsil.trust import score, weights
from konsil.trust.fixed import CEILING_E9, UNIT_E9, normal_cdf, product, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

BENEFIT_OF_DOUBT_E9 = 750_000_000
"""Added to z in the functional evidence, so that a peer that does no harm is believed."""

EXPECTED_STEPS = 4
"""How many own steps apart two honest models may well be; the receiver's voice in medians."""

SURE_ERRORS = 3
"""S is at least so many standard errors of the gain: below 2.25 of them, harm is not shown."""

_FAINTEST_VOICE_E9 = 50_000_000

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

    v: int = 1
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
    """The bound on the trial step: ``min(trusted median of reach, 6 own)``."""
    g_e9: Gain
    """The gain: how far the trial step towards the artifact lowers the private loss."""
    error_e9: Size
    """The standard error of the gain over the rows of the holdout."""
    scale_e9: Size
    """How large a gain of this round usually is, and at least some errors of it (S)."""
    d_e9: Size
    """``|x_j - x|``."""
    tau_e9: Size
    """The trusted median of d."""
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


def trusted_median(values: Sequence[int], trusts: Sequence[int]) -> int:
    """The smallest value at which the cumulative weight of trust reaches half the total.

    A peer's voice counts ``clip((T - 0.3) / 0.2, 0.05, 1)``, T in 1e-9 being its trust before
    this round. 0 when there is no value.
    """
    voices = (max(weights.gate(trust), _FAINTEST_VOICE_E9) for trust in trusts)
    pairs = sorted(zip(values, voices, strict=True))
    total = sum(voice for _, voice in pairs)
    reached = 0
    for value, voice in pairs:
        reached += voice
        if 2 * reached >= total:
            return value
    return 0


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
        voices = [*trusts[:place], *trusts[place + 1 :]]
        median = trusted_median(others, voices) if others else size
        scales.append(min(max(median * 14826 // 10000, SURE_ERRORS * error), CEILING_E9))
    return tuple(scales)


def functional(gain_e9: int, scale_e9: int, gate_e9: int = UNIT_E9) -> int:
    """The belief that the artifact does no harm: ``Phi(g / S + 0.75 gate)``.

    `gate_e9` is the peer's gate before this round. The benefit of the doubt is spent by harm
    done: whoever stands distrusted has to help, not merely to do nothing (docs/adr/0009).
    """
    z = ratio(gain_e9, max(scale_e9, 1))
    doubt = product(BENEFIT_OF_DOUBT_E9, gate_e9)
    return normal_cdf(min(max(z, -CEILING_E9), CEILING_E9) + doubt)


def geometric(distance_e9: int, tau_e9: int) -> int:
    """The belief from its distance: ``min(1, (1.5 tau / d)**2)``. This tau is never capped."""
    if 2 * distance_e9 <= 3 * tau_e9:
        return UNIT_E9
    return ratio(9 * tau_e9 * tau_e9, 4 * distance_e9 * distance_e9)


def recompute(record: EvidenceRecord) -> EvidenceRecord:
    """The record with everything that follows from its measurements computed anew.

    An auditor compares the result with the record: equal means that the weight is right.
    """
    old = score.Score(r_e9=record.r_before_e9, s_e9=record.s_before_e9)
    before = score.trust(old, record.base_rate_e9)
    gate_before = weights.gate(before)
    p_f = functional(record.g_e9, record.scale_e9, gate_before)
    p_g = geometric(record.d_e9, record.tau_e9)
    q = product(p_f, p_g)
    new = score.learned(old, q, refused=gate_before == 0)
    trust = score.trust(new, record.base_rate_e9)
    gate = weights.gate(trust) if record.pinned_e9 is None else record.pinned_e9
    lag_factor = weights.staleness(record.lag)
    clip = weights.clip(record.d_e9, record.tau_e9, record.own_e9)
    factors = (record.metropolis_e9, gate, record.share_e9, lag_factor, clip, record.step_e9)
    weighed = msgspec.structs.replace(
        record,
        p_f_e9=p_f,
        p_g_e9=p_g,
        q_e9=q,
        r_after_e9=new.r_e9,
        s_after_e9=new.s_e9,
        trust_before_e9=before,
        trust_e9=trust,
        gate_e9=gate,
        lag_factor_e9=lag_factor,
        clip_e9=clip,
        w_e9=product(*factors),
    )
    return msgspec.structs.replace(weighed, reason=_reason(weighed))


def bounds(
    distances: Sequence[int], reaches: Sequence[int], own_e9: int, trusts: Sequence[int]
) -> tuple[int, int]:
    """`(tau_e9, rho_e9)` of one round from its candidates' distances and trusts before it.

    Both are trusted medians in which the receiver has a voice too: it says `EXPECTED_STEPS`
    times its own step. Among two or three neighbours a plain median names the nearest as
    the measure of all, and casts out whoever merely has other patients (docs/adr/0009).
    """
    expected = EXPECTED_STEPS * own_e9
    voices = (*trusts, score.NEUTRAL_E9)
    tau = trusted_median((*distances, expected), voices)
    return tau, min(trusted_median((*reaches, expected), voices), 6 * own_e9)


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
    first, trusts = records[0], [record.trust_before_e9 for record in records]
    tau, rho = bounds(
        [r.d_e9 for r in records], [r.reach_e9 for r in records], first.own_e9, trusts
    )
    for field, follows in (("tau_e9", tau), ("rho_e9", rho)):
        if getattr(first, field) != follows:
            found.append(f"{field} is {getattr(first, field)}, but {follows} follows")
    scales = gain_scales([r.g_e9 for r in records], [r.error_e9 for r in records], trusts)
    for record, follows in zip(records, scales, strict=True):
        if record.scale_e9 != follows:
            found.append(f"{record.node}: scale_e9 is {record.scale_e9}, but {follows} follows")
    return tuple(found)


def _reason(record: EvidenceRecord) -> str:
    """The first factor that took weight away, as one word."""
    if record.pinned_e9 is not None:
        return "muted" if record.pinned_e9 == 0 else "pinned"
    if record.gate_e9 == 0:
        return "distrusted"
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
