"""Reasons: why trust in a peer moved, in one plain line for a person.

What an evidence record or a penalty says in figures; nothing is concluded here that does not
stand in the record.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from konsil.trust import integrate
from konsil.trust.fixed import UNIT_E9
from konsil.trust.gate import Penalty

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.trust.evidence import EvidenceRecord

WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "granted": "its whole weight is granted",
        "clipped": "it lies far away, so its step was shortened",
        "doubted": "evidence of harm took a part of its weight",
        "distrusted": "evidence of harm took all of its weight",
        "harmful": "what it does to the private loss is plain harm, so this one counts nothing",
        "copy": "a copy or an echo, so it counts nothing",
        "guarded": "the whole mix raised the private loss, so its step was shortened",
        "muted": "a person gave it no weight",
        "pinned": "a person gave it its whole weight",
    }
)
"""What the reason word of a judgement means for the weight."""


def weight(reason: str) -> str:
    """The reason word of a judgement in plain words; the word itself where it is not known."""
    return WEIGHTS.get(reason, reason)


def shown(record: EvidenceRecord, artifact: str) -> str:
    """What the gain of a judgement says of `artifact`, without its size."""
    if record.kind in integrate.ANSWERS:
        return (
            f"{artifact} agrees {'more' if record.g_e9 >= 0 else 'less'} than is asked of a teacher"
        )
    way = "lowers" if record.g_e9 >= 0 else "raises"
    return f"a step towards {artifact} {way} the private loss"


def moved(record: EvidenceRecord | Penalty) -> str:
    """What moved trust: a refusal, harm, distance, or nothing of these."""
    if isinstance(record, Penalty):
        return f"refused at {record.stage} for {', '.join(record.reasons)}"
    gain, error = abs(record.g_e9) / UNIT_E9, record.error_e9 / UNIT_E9
    function = f"{shown(record, 'it')} by {gain:.4f} ± {error:.4f}"
    if record.p_g_e9 < record.p_f_e9:
        distance, usual = record.d_e9 / UNIT_E9, record.tau_e9 / UNIT_E9
        return f"it lies {distance:.3f} away, where {usual:.3f} is usual; {function}"
    return function
