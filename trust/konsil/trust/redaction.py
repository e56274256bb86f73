"""Pruned bodies: which may go, when, and what must say so.

A `log.redact` names the entry by index and leaf hash, and proves its type and its time
(`konsil.protocol.leaves`): a body of a type that must stay cannot go under another name. A
`node.boot` names what a recovery could not bring back. How old a body was when it went is told
by the writer's own times, but no later than others had seen the word that took it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import leaves, tiles
from konsil.protocol.errors import RemoteError
from konsil.trust.fence import SKEW_MS
from konsil.trust.hidden import explains, may_be_pruned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.entries import Entry
    from konsil.protocol.node_bodies import LogRedact, NodeBoot
    from konsil.trust.fence import Fence
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place, Structure

RETENTION_MS = 183 * 24 * 3_600_000
"""How long a body stays at the least where no charter says otherwise: six months."""


class Redactions:
    """What one log says about bodies that went; feed it in order, then `check`."""

    def __init__(self, margin: Margin) -> None:
        self.explained = 0
        """Bodies that went for a legal reason."""
        self.gone: list[int] = []
        """Entries whose bodies a start counts as lost, in order."""
        self._margin = margin
        self._redacts: list[tuple[Place, int, LogRedact, Mapping[str, int]]] = []
        self._lost: list[tuple[int, int]] = []

    def redact(
        self, place: Place, entry: Entry, body: LogRedact, windows: Mapping[str, int]
    ) -> None:
        """A body went for a legal reason; `windows` are the charter's retention times."""
        self._redacts.append((place, entry.ts, body, windows))

    def booted(self, body: NodeBoot) -> None:
        """A start names what could not be recovered."""
        self._lost.extend((span.first, span.last) for span in body.lost)

    def check(self, structure: Structure, seen: Fence | None) -> None:
        """Holds the words against the tree and the bodies that are not here.

        `seen` tells when others had cosigned the log.
        """
        pruned = {item.place.index: item for item in structure.pruned}
        told: set[tuple[int, bytes]] = set()
        for place, ts, body, windows in sorted(self._redacts, key=lambda one: one[2].index):
            now_ms = ts
            if seen is not None and place.index < seen.head.size:
                now_ms = min(ts, seen.first.ms + SKEW_MS)
            if explains(body, place.index):
                told.add((body.index, body.leaf))
            if fault := _fault(structure, place.index, body, windows, now_ms):
                self._margin.add("redact.refused", place, f"entry {body.index}: {fault}")
        for item in structure.pruned:
            if (item.place.index, item.leaf) in told:
                self.explained += 1
            elif any(first <= item.place.index <= last for first, last in self._lost):
                self.gone.append(item.place.index)
            else:
                message = "its body is gone, and no entry says why it may be"
                self._margin.add("entry.pruned", item.place, message)
        if self.gone:
            message = f"{len(self.gone)} bodies did not come back, from this entry on"
            self._margin.add("entry.lost", pruned[self.gone[0]].place, message)


def _fault(
    structure: Structure, at: int, body: LogRedact, windows: Mapping[str, int], now_ms: int
) -> str:
    """Why the `log.redact` at index `at` takes away what it may not; empty when it may."""
    if body.index >= at:
        return "it does not stand before this entry"
    if _leaf(structure, body.index) not in (None, body.leaf):
        return "it has another leaf hash"
    if leaves.shown(body.front, body.kind, body.written_ms) != body.leaf:
        return f"its leaf hash is not that of a {body.kind} of that time"
    if not may_be_pruned(body.kind):
        return f"a {body.kind} body may never go"
    window, age = windows.get(body.kind, RETENTION_MS), now_ms - body.written_ms
    return f"it had to stay for {window} ms, and is {age} ms old" if age < window else ""


def _leaf(structure: Structure, index: int) -> bytes | None:
    """The leaf hash of an entry; None where it cannot be told, which is a finding already."""
    group, place = divmod(index, tiles.WIDTH)
    if not structure.knows(index + 1) or index >= structure.size:
        return None
    try:
        return structure.leaves(group)[place]
    except RemoteError:
        return None
