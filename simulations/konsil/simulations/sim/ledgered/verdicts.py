"""Verdicts: what the evidence rule found in a round, as the records that a ledger keeps.

Nothing is measured or computed here: the figures are those that the rule weighed by, so an
auditor who computes them again from a record gets the weights that were used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.node.learning.memory import PARAMETERS
from konsil.protocol import records
from konsil.protocol.batches import pack_all
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.trust.evidence import UNPINNED, EvidenceRecord, reason_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.digest import Digest
    from konsil.simulations.sim.rules.evidence import Judgement

_MEASURED = (
    "lag",
    "own_e9",
    "g_e9",
    "excused_e9",
    "d_e9",
    "share_e9",
    "metropolis_e9",
    "base_rate_e9",
)
_SHARED = ("reach_e9", "error_e9", "rho_e9", "tau_e9", "scale_e9", "step_e9")
_BEFORE = {"r_e9": "r_before_e9", "s_e9": "s_before_e9"}


def records_of(
    judgement: Judgement,
    number: int,
    candidates: Sequence[tuple[str, Digest]],
    own: Sequence[tuple[Digest, Digest]],
) -> list[EvidenceRecord]:
    """One record for each link of a round.

    `candidates` are publisher and payload of each link, `own` the receiver's models before and
    after its training.
    """
    measures = judgement.measures
    columns: dict[str, list[int]] = {}
    columns |= {name: getattr(measures, name).tolist() for name in _MEASURED}
    columns |= {said: getattr(measures, name).tolist() for name, said in _BEFORE.items()}
    columns |= {name: getattr(judgement, name).tolist() for name in _SHARED}
    weighed = msgspec.structs.asdict(judgement.weighed)
    columns |= {name: values.tolist() for name, values in weighed.items()}
    pinned = [None if one == UNPINNED else one for one in measures.pinned_e9.tolist()]
    names = tuple(columns)
    figures = zip(*columns.values(), strict=True)
    found = [
        EvidenceRecord(
            node=node,
            art=art,
            kind=PARAMETERS,
            round=number,
            before=before,
            trained=trained,
            pinned_e9=gate,
            **dict(zip(names, row, strict=True)),
        )
        for (node, art), (before, trained), gate, row in zip(
            candidates, own, pinned, figures, strict=True
        )
    ]
    return [msgspec.structs.replace(one, reason=reason_of(one)) for one in found]


def packed(found: Sequence[EvidenceRecord]) -> list[bytes]:
    """The bytes of each record."""
    together = pack_all(found, DEFAULT_LIMITS) if found else []
    return [records.pack(one) for one in found] if together is None else list(map(bytes, together))
