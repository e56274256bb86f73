"""Pruned bodies: which may go, when, and what must say so.

A `log.redact` names the entry by index and leaf hash; a `node.boot` names what a recovery could
not bring back. The type and the time of a body that is gone cannot be read any more. What can
be said of its age is bounded by the entry before it: inside every window means inside its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from konsil.protocol import entries, merkle, tiles
from konsil.protocol.errors import RemoteError
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES, Layout
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from konsil.protocol.entries import Entry
    from konsil.protocol.node_bodies import LogRedact, NodeBoot
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Place, Pruned, Structure

RETENTION_MS = 183 * 24 * 3_600_000
"""How long a body stays at the least where no charter says otherwise: six months."""

_KEPT = ("node.", "key.", "charter.", "member.", "model.", "artifact.")
_OTHER = "it has another leaf hash"
_KEPT_TYPES = frozenset({"log.redact", "peer.exposed", "audit.run"})


def may_be_pruned(word: str) -> bool:
    """Whether a body of this type may ever go; a stranger needs the others."""
    return word not in _KEPT_TYPES and not word.startswith(_KEPT)


PRUNABLE = tuple(word for word in entries.TYPES if may_be_pruned(word))


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

    def check(self, structure: Structure) -> None:
        """Holds the words against the bodies that are here and those that are not."""
        pruned = {item.place.index: item for item in structure.pruned}
        bodies = _Bodies(structure.layout)
        told: set[tuple[int, bytes]] = set()
        for place, now_ms, body, windows in sorted(self._redacts, key=lambda one: one[2].index):
            told.add((body.index, body.leaf))
            fault = "it does not stand before this entry"
            if body.index < place.index:
                gone = pruned.get(body.index)
                if gone is None:
                    fault = _fault(bodies.entry(body.index), body, windows, now_ms)
                else:
                    fault = _fault_of_gone(gone, body, windows, now_ms)
            if fault:
                self._margin.add("redact.refused", place, f"entry {body.index}: {fault}")
        for item in structure.pruned:
            if (item.place.index, item.leaf) in told:
                self.explained += 1
            elif any(first <= item.place.index <= last for first, last in self._lost):
                self.gone.append(item.place.index)
            else:
                message = "its body is gone, and no entry says why"
                self._margin.add("entry.pruned", item.place, message)
        if self.gone:
            message = f"{len(self.gone)} bodies did not come back, from this entry on"
            self._margin.add("entry.lost", pruned[self.gone[0]].place, message)


def _fault(data: bytes, body: LogRedact, windows: Mapping[str, int], now_ms: int) -> str:
    """Why a body that is still here may not go; of one that is lost nothing can be said."""
    if not data:
        return ""
    if merkle.leaf_hash(data) != body.leaf:
        return _OTHER
    try:
        frame = entries.peek(data)
    except RemoteError:
        return ""  # that is a finding already
    if not may_be_pruned(frame.t):
        return f"a {frame.t} body may never go"
    return _too_early(windows.get(frame.t, RETENTION_MS), now_ms - frame.ts)


def _fault_of_gone(gone: Pruned, body: LogRedact, windows: Mapping[str, int], now_ms: int) -> str:
    """Why a body that is gone had to stay, whatever it was."""
    if gone.leaf != body.leaf:
        return _OTHER
    window = min(windows.get(word, RETENTION_MS) for word in PRUNABLE)
    return _too_early(window, now_ms - gone.since_ms)


def _too_early(window: int, age: int) -> str:
    return f"it had to stay for {window} ms, and is {age} ms old" if age < window else ""


class _Bodies:
    """Entries read again from the files; the file that was read last is kept."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._path: Path | None = None
        self._held: list[bytes] = []

    def entry(self, index: int) -> bytes:
        """The bytes of an entry; empty when they cannot be read."""
        start = self._layout.tails[-1] if self._layout.tails else index + 1
        bundled = index < start
        name = tiles.bundle_path(index // tiles.WIDTH) if bundled else f"tail.{start}"
        path = self._layout.path(name)
        if path != self._path:
            self._path, self._held = path, []
            with suppress(RemoteError, FileNotFoundError):
                self._held = _in_bundle(path) if bundled else _in_tail(path)
        at = index % tiles.WIDTH if bundled else index - start
        return self._held[at] if at < len(self._held) else b""


def _in_bundle(path: Path) -> list[bytes]:
    return [entry for _, entry in tiles.read_bundle(read_file(path, MAX_BUNDLE_BYTES))]


def _in_tail(path: Path) -> list[bytes]:
    return [item.entry for item in tiles.read_tail(read_file(path, MAX_TAIL_BYTES)).frames]
