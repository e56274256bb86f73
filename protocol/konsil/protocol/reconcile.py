"""Reconciliation: which artifacts are newest, which are missing here, and who says two things.

A `HeadTable` is what one source says, or what this node has verified: for each (publisher,
kind) the newest head, the last `Limits.head_history` sequences, and every sequence for
which two artifacts were named. A head in a `Have` is a claim of its *sender* about the
publisher, so keep one table for each source and one for verified envelopes: a liar then
spoils its own table and nothing else.

Laws (property-tested): merging is commutative, associative and idempotent, so the order in
which heads arrive decides nothing. For the newest heads this always holds; for
equivocations as long as both heads are among the remembered sequences, for an older one can
no longer be noticed. An equivocation that was found stays and can only gain heads, up to
`Limits.head_forks` of them and `Limits.head_history` equivocations for each publisher and
kind; beyond that the lowest are kept, since more prove nothing more. Of two heads with one
sequence the one with the smaller `env` counts as newest, whichever came first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from konsil.protocol.errors import LimitExceeded
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import Head

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from konsil.protocol.digest import Digest

Key: TypeAlias = tuple[str, str]
"""Publisher and kind."""

Slots: TypeAlias = dict[int, tuple[Head, ...]]
"""Sequence to the heads that claim it, by ascending envelope digest."""


class Equivocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two or more artifacts with one publisher, kind and sequence, by ascending `env`.

    It proves something against the publisher once two of the envelopes verify; until then,
    only that the sources contradict each other.
    """

    publisher: str
    kind: str
    sequence: int
    heads: tuple[Head, ...]


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a merge changed, each part ordered by publisher, kind and sequence."""

    heads: tuple[Head, ...]
    """Heads that are newest now and were not before."""
    equivocations: tuple[Equivocation, ...]
    """Equivocations that were found, or gained a head."""


class HeadTable:
    """The newest head of each publisher and kind, as far as one source tells."""

    __slots__ = ("_forks", "_limits", "_slots")

    def __init__(self, heads: Iterable[Head] = (), *, limits: Limits = DEFAULT_LIMITS) -> None:
        """A table of `heads`; raises what `merge` raises."""
        self._limits = limits
        self._slots: dict[Key, Slots] = {}
        self._forks: dict[Key, Slots] = {}
        self.merge(heads)

    @property
    def heads(self) -> tuple[Head, ...]:
        """The newest head of each publisher and kind, ordered by both: what a `Have` says."""
        return tuple(_newest(self._slots[key]) for key in sorted(self._slots))

    @property
    def equivocations(self) -> tuple[Equivocation, ...]:
        """Every sequence that was used more than once, by publisher, kind and sequence."""
        return tuple(
            _equivocation(heads)
            for key in sorted(self._forks)
            for _, heads in sorted(self._forks[key].items())
        )

    def newest(self, publisher: str, kind: str) -> Head | None:
        """The newest head of one publisher and kind."""
        slots = self._slots.get((publisher, kind))
        return _newest(slots) if slots else None

    def merge(self, heads: Iterable[Head]) -> News:
        """Take `heads` in, whatever their order, and say what is new.

        Heads older than the remembered sequences are passed over. Raises `LimitExceeded`,
        and changes nothing, when there would be more than `Limits.heads` publishers and
        kinds.
        """
        arrived: dict[Key, list[Head]] = {}
        for head in heads:
            arrived.setdefault((head.publisher, head.kind), []).append(head)
        total = len(self._slots.keys() | arrived.keys())
        if total > self._limits.heads:
            raise LimitExceeded(f"heads of {total} publishers and kinds")
        newer: list[Head] = []
        found: list[Equivocation] = []
        for key in sorted(arrived):
            before = self.newest(*key)
            found += self._merge_key(key, arrived[key])
            newest = _newest(self._slots[key])
            if newest != before:
                newer.append(newest)
        return News(heads=tuple(newer), equivocations=tuple(found))

    def wants(self, held: HeadTable, *, known: Collection[Digest] = ()) -> tuple[Head, ...]:
        """The newest heads here that are newer than those of `held`: what to ask for.

        Envelopes in `known` (already refused, or under way) and payloads above the limit are
        left out. Ordered by publisher and kind.
        """
        return tuple(head for head in self.heads if self._wanted(head, held, known))

    def _wanted(self, head: Head, held: HeadTable, known: Collection[Digest]) -> bool:
        if head.env in known or head.size > self._limits.payload_bytes:
            return False
        ours = held.newest(head.publisher, head.kind)
        return ours is None or head.sequence > ours.sequence

    def _merge_key(self, key: Key, heads: Iterable[Head]) -> list[Equivocation]:
        """Take in the heads of one publisher and kind; the equivocations that are new."""
        slots, forks = self._slots.setdefault(key, {}), self._forks.get(key, {})
        before = dict(forks)
        for head in heads:
            known = slots.get(head.sequence) or forks.get(head.sequence, ())
            slot = _joined(known, head, self._limits.head_forks)
            slots[head.sequence] = slot
            if len(slot) > 1:
                forks[head.sequence] = slot
        for sequence in sorted(slots)[: -self._limits.head_history]:
            del slots[sequence]
        for sequence in sorted(forks)[self._limits.head_history :]:
            del forks[sequence]
        if forks:
            self._forks[key] = forks
        changed = sorted(one for one in forks if forks[one] != before.get(one))
        return [_equivocation(forks[one]) for one in changed]


def _newest(slots: Slots) -> Head:
    return slots[max(slots)][0]


def _equivocation(heads: tuple[Head, ...]) -> Equivocation:
    one = heads[0]
    return Equivocation(publisher=one.publisher, kind=one.kind, sequence=one.sequence, heads=heads)


def _rank(head: Head) -> tuple[bytes, bytes, int, int]:
    return (head.env, head.art, head.size, head.round)


def _joined(slot: tuple[Head, ...], head: Head, most: int) -> tuple[Head, ...]:
    """The lowest `most` heads with different envelopes; of one envelope, the lowest."""
    lowest: dict[bytes, Head] = {}
    for one in sorted((*slot, head), key=_rank):
        lowest.setdefault(one.env, one)
    return tuple(lowest.values())[:most]
