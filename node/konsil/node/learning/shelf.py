"""The artifacts that this node holds, own and received; what it can serve and what it can mix.

An index in memory: payloads lie in the blob store, envelopes and proofs beside the ledger,
and the ledger's publish and receive entries say what belongs together, so that a restart
rebuilds the shelf. Nothing is on the shelf that the ledger does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.artifact import Artifact
from konsil.protocol.messages import Head

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact on the shelf."""

    head: Head
    artifact: Artifact
    envelope: bytes
    """The exact signed bytes, as they came and as they are handed on."""
    proof: bytes
    """The tlog-proof of its publish entry."""
    path: Path
    """Its payload."""
    knowledge: bytes = b""
    """The knowledge manifest that the artifact names; empty when it names none."""
    since_round: int
    """Our own round in which we first held it."""
    digests: tuple[bytes, ...] = ()
    """The digests of its chunks where they are known; else serving computes them."""


class Shelf:
    """Artifacts by envelope digest, and which of them were mixed already."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._newest: dict[tuple[str, str], bytes] = {}
        self._mixed: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def add(self, held: Held) -> None:
        """Put an artifact on the shelf; the newest of a publisher and kind is its head."""
        head = held.head
        self._held[head.env] = held
        current = self._newest.get((head.publisher, head.kind))
        if current is None or self._held[current].head.sequence < head.sequence:
            self._newest[(head.publisher, head.kind)] = head.env

    def drop(self, env: bytes) -> None:
        """Take away an artifact whose payload is lost; the next newest is the head then."""
        gone = self._held.pop(env, None)
        if gone is None:
            return
        place = (gone.head.publisher, gone.head.kind)
        rest = [h for h in self._held.values() if (h.head.publisher, h.head.kind) == place]
        self._newest.pop(place)
        if rest:
            self._newest[place] = max(rest, key=lambda held: held.head.sequence).head.env

    def get(self, env: bytes) -> Held | None:
        """The artifact with this envelope digest."""
        return self._held.get(env)

    def newest(self, publisher: str, kind: str) -> Held | None:
        """The newest artifact held of a publisher and kind."""
        env = self._newest.get((publisher, kind))
        return None if env is None else self._held[env]

    def latest(self, publisher: str, kinds: Collection[str]) -> Held | None:
        """The newest artifact held of a publisher, whichever of these kinds it is."""
        held = [one for kind in kinds if (one := self.newest(publisher, kind)) is not None]
        return max(held, key=lambda one: one.head.sequence, default=None)

    def heads(self) -> tuple[Head, ...]:
        """The newest artifact of each publisher and kind: what we can serve."""
        return tuple(self._held[env].head for env in self._newest.values())

    def fresh(self, kinds: Collection[str], *, without: str) -> tuple[Held, ...]:
        """Each publisher's newest artifact of these kinds that was not mixed yet, by publisher.

        One of each, whatever it hands out: two kinds do not make two voices.
        """
        newest: dict[str, Held] = {}
        for (publisher, kind), env in sorted(self._newest.items()):
            held, other = self._held[env], newest.get(publisher)
            if kind not in kinds or publisher == without:
                continue
            if other is None or other.head.sequence < held.head.sequence:
                newest[publisher] = held
        return tuple(
            held
            for publisher, held in newest.items()
            if held.head.sequence > max(self._mixed.get((publisher, kind), 0) for kind in kinds)
        )

    def mark_mixed(self, envs: Collection[bytes]) -> None:
        """Remember that these were judged and mixed, so that none counts twice."""
        for held in (self._held[env] for env in envs if env in self._held):
            head = held.head
            place = (head.publisher, head.kind)
            self._mixed[place] = max(self._mixed.get(place, 0), head.sequence)
