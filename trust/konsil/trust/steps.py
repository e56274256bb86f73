"""The steps that ledgers tell of, and who made a payload of which several say that they made it.

Every home may write that it made a model. Who made it first, only receipts show: a log that holds
a receipt from another log, over the entry in which that one made the model, spoke later. Where
no receipt tells, the step is disputed and names all who claim it. No clock decides between homes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from konsil.protocol.fields import UNIT_E9
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
)
from konsil.trust.integrate import TAUGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.entries import Entry
    from konsil.trust.reading import Told

StepKind = Literal["base", "train", "mix", "taught", "release", "unknown", "disputed"]

OR = "+"
"""Stands between the node ids of those who claim one model."""


class Source(msgspec.Struct, frozen=True):
    """One input of a step; `w_e9` is None where the step is not linear in it."""

    model: bytes
    node: str
    w_e9: int | None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How one payload came to be, as a ledger says it at (origin's node, index).

    Of a disputed one `node` are the ids of all who claim it, with `+` between them.
    """

    out: bytes
    kind: StepKind
    node: str
    index: int | None
    time_ms: int
    round: int | None
    sources: tuple[Source, ...]
    note: str = ""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Whose step it is: one node, or all who claim it."""
        return tuple(self.node.split(OR))


def steps_of(told: Told) -> dict[bytes, Step]:
    """What one ledger says of every payload that it made first, else released first."""
    made: dict[bytes, Step] = {}
    released: dict[bytes, Step] = {}
    for entry in told.entries:
        step = _step(entry, told.author.node)
        if step is not None and step.out not in (source.model for source in step.sources):
            (released if step.kind == "release" else made).setdefault(step.out, step)
    return released | made


def settled(claims: Sequence[tuple[Told, Step]]) -> Step:
    """The step that counts, of those that ledgers tell of one payload."""
    earliest = min((step for _, step in claims), key=lambda step: (step.time_ms, step.node))
    if len({_gist(step) for _, step in claims}) == 1:
        return earliest
    first = [step for told, step in claims if not any(_later(told, step, one) for _, one in claims)]
    if len({_gist(step) for step in first}) == 1:
        return min(first, key=lambda step: (step.time_ms, step.node))
    nodes = sorted({step.node for step in first})
    # Whatever any of them names may be in it: whoever looks for taint must go on through it.
    sources = {
        one.model: Source(one.model, one.node, None) for step in first for one in step.sources
    }
    return msgspec.structs.replace(
        earliest, kind="disputed", node=OR.join(nodes), index=None, round=None,
        sources=tuple(sources.values()),
        note="each of them says that it made it",
    )  # fmt: skip


def _gist(step: Step) -> tuple[str, frozenset[bytes]]:
    """From what, and by whom where that counts: a mix or a base model is nobody's merit."""
    whose = step.node if step.kind in ("train", "release") else ""
    return whose, frozenset(source.model for source in step.sources)


def _later(told: Told, step: Step, other: Step) -> bool:
    """Whether a ledger's own receipts say that it knew the other's step before it told of its."""
    if not step.sources or _gist(step) == _gist(other) or other.index is None:
        return False
    return any(
        isinstance(entry.b, ArtifactReceive)
        and entry.b.publisher == other.node
        and entry.b.size > other.index
        and entry.n < (step.index or 0)
        for entry in told.entries
    )


def _step(entry: Entry, node: str) -> Step | None:
    """What an entry says about the making of a payload; None when nothing."""
    body = entry.b
    if isinstance(body, ModelBase):
        return _made(entry, node, "base", body.model, (), body.source)
    if isinstance(body, ModelTrain):
        sources: tuple[Source, ...] = (Source(body.base, node, UNIT_E9),)
        return _made(entry, node, "train", body.out, sources, round_=body.round)
    if isinstance(body, ArtifactPublish):
        # Only used where no other entry explains the payload: what left was transformed. A data
        # vector stands for the model that it makes of the common base.
        linear = len(body.derived_from) == 1 and body.kind in ("parameters", "data_vector")
        weight = UNIT_E9 if linear else None
        sources = tuple(Source(digest, node, weight) for digest in body.derived_from)
        return _made(entry, node, "release", body.art, sources, body.kind)
    if isinstance(body, ArtifactIntegrate):
        taught = body.rule in TAUGHT
        sources = tuple(
            Source(part.art, part.node, None if taught and part.w_e9 else part.w_e9)
            for part in body.parts
        )
        kind: StepKind = "taught" if taught else "mix"
        return _made(entry, node, kind, body.out, sources, body.rule, round_=body.round)
    return None


def _made(
    entry: Entry,
    node: str,
    kind: StepKind,
    out: bytes,
    sources: tuple[Source, ...],
    note: str = "",
    *,
    round_: int | None = None,
) -> Step:
    return Step(
        out=out,
        kind=kind,
        node=node,
        index=entry.n,
        time_ms=entry.ts,
        round=round_,
        sources=sources,
        note=note,
    )
