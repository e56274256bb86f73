"""What can still be told of bodies that are gone: their types and times, by `log.redact`.

A rule meets the place of a body before it meets the entry that says why the body went. So the
files are searched for such entries, once, as soon as a body is missing. What is found here only
guides the rules: the entry itself is read, and held against the tree, like every other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from konsil.protocol import entries, leaves, tiles
from konsil.protocol.errors import RemoteError
from konsil.protocol.node_bodies import LogRedact
from konsil.trust.layout import MAX_BUNDLE_BYTES, MAX_TAIL_BYTES
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from konsil.protocol.limits import Limits
    from konsil.trust.layout import Layout
    from konsil.trust.structure import Pruned

_KEPT = ("node.", "key.", "charter.", "member.", "model.", "artifact.")
_KEPT_TYPES = frozenset({"log.redact", "peer.exposed", "audit.run"})
_END = re.compile(
    rb"\xa1t\xaalog\.redact\xa2ts(?:\xcf.{8}|\xce.{4}|\xcd..|\xcc.|[\x00-\x7f])\xa1v\x01", re.DOTALL
)
_BEGIN = b"\x87\xa1b\x87"
_LONGEST = 512
"""More bytes than a `log.redact` can have."""
_GUESSES = 4
"""So often its beginning is looked for: what it says may look like one, but not by chance."""


def may_be_pruned(word: str) -> bool:
    """Whether a body of this type may ever go; a stranger needs the others."""
    return word not in _KEPT_TYPES and not word.startswith(_KEPT)


def explains(body: LogRedact, at: int) -> bool:
    """Whether the `log.redact` at index `at` proves that what went may go at all.

    The leaf hash shows the type and the time. The caller compares it with that of the place.
    """
    return (
        body.index < at
        and may_be_pruned(body.kind)
        and leaves.shown(body.front, body.kind, body.written_ms) == body.leaf
    )


class Hidden:
    """The redacted bodies of one ledger."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._layout = layout
        self._limits = limits
        self._told: dict[tuple[int, bytes], LogRedact] | None = None

    def of(self, item: Pruned) -> LogRedact | None:
        """What a `log.redact` proves of a body that is gone; None when none does.

        Raises `FileNotFoundError` when a running node replaced a file meanwhile.
        """
        if self._told is None:
            self._told = {}
            for entry in self._found():
                if isinstance(entry.b, LogRedact) and explains(entry.b, entry.n):
                    self._told.setdefault((entry.b.index, entry.b.leaf), entry.b)
        return self._told.get((item.place.index, item.leaf))

    def _found(self) -> Iterator[entries.Entry]:
        layout = self._layout
        files = [(tiles.bundle_path(one), MAX_BUNDLE_BYTES) for one in sorted(layout.bundles)]
        files += [(f"tail.{start}", MAX_TAIL_BYTES) for start in layout.tails]
        for name, limit in files:
            try:
                data = read_file(layout.path(name), limit)
            except RemoteError:
                continue  # that is a finding of the structure
            yield from _redacts(data, self._limits)


def _redacts(data: bytes, limits: Limits) -> Iterator[entries.Entry]:
    """The `log.redact` entries in a file, wherever they lie in it."""
    for match in _END.finditer(data):
        begin = match.start()
        for _ in range(_GUESSES):
            begin = data.rfind(_BEGIN, max(0, match.end() - _LONGEST), begin)
            entry = None if begin < 0 else entries.quick(data[begin : match.end()], limits=limits)
            if entry is not None:
                yield entry
            if entry is not None or begin < 0:
                break
