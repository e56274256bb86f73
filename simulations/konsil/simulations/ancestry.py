"""The history of one model, laid out for a drawing: every model that went into it, and how.

What happened, and the exact shares, are `konsil.trust.lineage`'s, read from the ledgers; this
module only gives each model a lane (the hospital) and a place in time (the own round).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.errors import KonsilError
from konsil.simulations.charts import Flow, Step
from konsil.simulations.facts import LineageFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from konsil.trust.lineage import Lineage
    from konsil.trust.lineage import Step as Made

UNIT_E9 = 1e9
_TRAINED = 0.5
"""How long before the end of its round a trained model is drawn."""
_RELEASED = 0.6
"""How long after what it is made from a changed release is drawn."""

_WORDS = {"train": "trained", "mix": "mixed", "release": "released", "unknown": "not explained"}


def history(homes: Sequence[Path], hospital: str, final: bytes) -> LineageFacts | None:
    """Where `final`, a model of `hospital`, comes from; None when the ledgers do not tell."""
    from konsil.trust.lineage import read_lineage

    try:
        lineage = read_lineage(homes)
        made = lineage.ordered(final)
        contributions = lineage.contributors(final)
    except KonsilError:
        return None
    return LineageFacts(
        hospital=hospital,
        final=final.hex(),
        steps=_steps(lineage, made),
        flows=tuple(
            Flow(
                source=source.model.hex(),
                target=step.out.hex(),
                share=(source.w_e9 or 0) / UNIT_E9,
            )
            for step in made
            for source in step.sources
            if source.w_e9 != 0
        ),
        shares=tuple((one.name, one.share_e9 / UNIT_E9) for one in contributions.contributors),
    )


def _steps(lineage: Lineage, made: Sequence[Made]) -> tuple[Step, ...]:
    """The models in the order in which they were made, each with its place."""
    places: dict[bytes, float] = {}
    steps = []
    for one in made:
        places[one.out] = _place(one, places)
        lane = None if one.kind == "base" else lineage.name(one.node)
        number = "" if one.round is None else f" in round {one.round}"
        who = "common base" if lane is None else f"{lane}, {_WORDS[one.kind]}{number}"
        key = one.out.hex()
        steps.append(
            Step(key=key, lane=lane, at=places[one.out], kind=one.kind, hover=f"{who} {key[:8]}")
        )
    return tuple(steps)


def _place(one: Made, places: Mapping[bytes, float]) -> float:
    if one.kind == "base":
        return 0.0
    if one.round is not None:
        return one.round - (_TRAINED if one.kind == "train" else 0.0)
    return max((places[source.model] for source in one.sources), default=0.0) + _RELEASED
