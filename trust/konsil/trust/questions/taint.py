"""What became of a payload: every model and artifact made from it, and how much of it is left.

The amount is the sum over all paths of the products of their weights, exactly. A step that is
not linear ends it: what lies behind it is tainted, and no percentage is invented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import UsageError
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive
from konsil.trust.exact import Amount, shown
from konsil.trust.lineage import lineage_of
from konsil.trust.questions.gathering import hex_start
from konsil.trust.steps import Step

if TYPE_CHECKING:
    from konsil.trust.questions.gathering import Gathered


class Outlet(msgspec.Struct, frozen=True):
    """An artifact as which a payload was published."""

    index: int
    kind: str
    sequence: int


class Tainted(msgspec.Struct, frozen=True, kw_only=True):
    """One payload that was made from the one in question."""

    step: Step
    exact: Amount | None
    """How much is in it: (n, d) for n / 10^(9·d); None when that is not linear."""
    current: bool
    """Whether it is the current model of a hospital."""
    published: tuple[Outlet, ...]

    @property
    def share(self) -> str | None:
        """The amount as a decimal with up to 18 places; None when not linear."""
        return None if self.exact is None else shown(self.exact)

    @property
    def share_e9(self) -> int | None:
        """The amount in 1e-9, rounded down; None when not linear."""
        if self.exact is None:
            return None
        n, depth = self.exact
        return int(n * 10**9 // 10 ** (9 * depth))


class Taint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything made from `origin`, and the home owners whose models hold none of it."""

    origin: bytes
    made: Step | None
    """How it came to be itself, where a given ledger tells."""
    tainted: tuple[Tainted, ...]
    holders: tuple[tuple[str, bytes], ...]
    """The home owners whose current model holds some of it, and that model. Two hospitals may
    have made the same model: each is a holder by what it uses, whoever is said to have made it."""
    free: tuple[str, ...]
    unseen: tuple[str, ...] = ()
    """Members who may hold some of it, because it left its hospital, and whose homes are not
    given."""
    unexplained: tuple[Step, ...] = ()
    """Payloads that no given ledger explains: they may be made from it."""


def taint(homes: Gathered, start: str) -> Taint:
    """The descendants of the payload whose digest, or envelope's digest, begins with `start`.

    Raises `UsageError`, `IncompleteError`, or `VerificationError` for a lineage with a cycle.
    """
    lineage = lineage_of([home.told for home in homes.homes], homes.names())
    origin = lineage.find(_payload(homes, hex_start(start)))
    outlets: dict[bytes, list[Outlet]] = {}
    for _, entry in homes.entries():
        if isinstance(entry.b, ArtifactPublish):
            outlet = Outlet(entry.n, entry.b.kind, entry.b.sequence)
            outlets.setdefault(entry.b.art, []).append(outlet)
    found = [
        Tainted(
            step=lineage.steps[digest],
            exact=exact,
            current=digest in lineage.currents.values(),
            published=tuple(outlets.get(digest, ())),
        )
        for digest, exact in lineage.amounts(origin).items()
        if digest != origin
    ]
    made = lineage.steps[origin]
    digests = {origin, *(one.step.out for one in found)}
    holders = {node: model for node, model in lineage.currents.items() if model in digests}
    given = {home.node for home in homes.homes}
    away = homes.authors.keys() - given if digests & _travelled(homes) else set()
    return Taint(
        origin=origin,
        made=None if made.kind == "unknown" else made,
        tainted=tuple(sorted(found, key=lambda one: (homes.name(one.step.node), _order(one)))),
        holders=tuple(holders.items()),
        free=tuple(node for node in lineage.currents if node not in holders),
        unseen=tuple(sorted(away, key=homes.name)),
        unexplained=tuple(
            step for step in lineage.steps.values() if step.kind == "unknown" and step.out != origin
        ),
    )


def _travelled(homes: Gathered) -> set[bytes]:
    """Every payload that left a hospital or came to one."""
    return {
        entry.b.art
        for _, entry in homes.entries()
        if isinstance(entry.b, ArtifactPublish | ArtifactReceive)
    }


def _order(one: Tainted) -> tuple[int, bytes]:
    return (one.step.index or 0, one.step.out)


def _payload(homes: Gathered, start: str) -> str:
    """`start`, or the payload of the one envelope that it begins."""
    arts = {
        entry.b.art.hex()
        for _, entry in homes.entries()
        if isinstance(entry.b, ArtifactPublish | ArtifactReceive)
        and entry.b.env.hex().startswith(start)
    }
    if len(arts) > 1:
        raise UsageError(f"{len(arts)} envelopes begin with {start}", hint="give more digits")
    return arts.pop() if arts else start
