"""The history of one model, laid out for a drawing: every model that went into it, and how.

Each model gets a lane (the hospital) and a place in time (the own round); `konsil.trust.charts`
draws it. Of a long history only the newest rounds are laid out, and the rest is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.fields import UNIT_E9
from konsil.trust.charts import Flow, Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.trust.lineage import Lineage
    from konsil.trust.steps import Step as Made

_TRAINED = 0.5
"""How long before the end of its round a trained model is drawn."""
_RELEASED = 0.6
"""How long after what it is made from a changed release is drawn."""

_WORDS = {
    "train": "trained", "mix": "mixed", "taught": "taught", "release": "released",
    "unknown": "not explained",
    "disputed": "claimed by several",
}  # fmt: skip


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A lineage ready to be drawn."""

    steps: tuple[Step, ...]
    flows: tuple[Flow, ...]
    first: float
    """The round at which the drawing begins."""
    left_out: int
    """Older steps that are not drawn."""


def lay_out(lineage: Lineage, model: bytes, *, rounds: int | None = None) -> Picture:
    """The history of `model`; of the newest `rounds` only, where that is given."""
    made = lineage.ordered(model)
    steps = _steps(lineage, made)
    last = max(step.at for step in steps)
    first = 0.0 if rounds is None else max(0.0, float(int(last) - rounds))
    drawn = {step.key for step in steps if step.at >= first}
    return Picture(
        steps=tuple(step for step in steps if step.key in drawn),
        flows=tuple(
            Flow(
                source=source.model.hex(),
                target=step.out.hex(),
                share=(source.w_e9 or 0) / UNIT_E9,
            )
            for step in made
            for source in step.sources
            if source.w_e9 != 0 and {source.model.hex(), step.out.hex()} <= drawn
        ),
        first=first,
        left_out=len(steps) - len(drawn),
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
