"""Where the final model of a run comes from: its drawing and its exact shares.

What happened, and the exact shares, are `konsil.trust.lineage`'s, read from the ledgers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.errors import KonsilError
from konsil.simulations.facts import LineageFacts
from konsil.trust.lineage_chart import lay_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UNIT_E9 = 1e9


def history(homes: Sequence[Path], hospital: str, final: bytes) -> LineageFacts | None:
    """Where `final`, a model of `hospital`, comes from; None when the ledgers do not tell."""
    from konsil.trust.lineage import read_lineage

    try:
        lineage = read_lineage(homes)
        picture = lay_out(lineage, final)
        contributions = lineage.contributors(final)
    except KonsilError:
        return None
    return LineageFacts(
        hospital=hospital,
        final=final.hex(),
        steps=picture.steps,
        flows=picture.flows,
        shares=tuple((one.name, one.share_e9 / UNIT_E9) for one in contributions.contributors),
    )
