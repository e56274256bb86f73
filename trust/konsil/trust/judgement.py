"""Every weight of a log computed again from its evidence records.

A round's judgements stand as `trust.update` entries before the mix that used them. Each names
an evidence record; `konsil.trust.evidence` says what must follow from its measurements, and
the mix must use exactly those weights. The measurements themselves can be repeated only
inside the hospital. A round of which evidence is missing is reported as incomplete, and
nothing more is concluded from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import records
from konsil.protocol.errors import EncodingRefused, RemoteError
from konsil.trust.evidence import EvidenceRecord, disagreements

if TYPE_CHECKING:
    from konsil.protocol.entries import ArtifactIntegrate, TrustUpdate
    from konsil.trust.report import Findings
    from konsil.trust.structure import Place


class Judgements:
    """The judgements of the round that is being read."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._round: dict[tuple[bytes, str], EvidenceRecord] = {}
        self._lost: set[tuple[bytes, str]] = set()
        self._place: Place | None = None

    def take(self, place: Place, body: TrustUpdate, data: bytes | None) -> None:
        """Reads one trust update; one without an artifact is an operator's or the gate's word."""
        if body.art is None:
            return
        if data is None:
            self._lost.add((body.art, body.node))
            return
        try:
            record = records.unpack(data, EvidenceRecord)
            stated = (body.node, body.art, body.kind, body.old_e9, body.new_e9)
            shown = (record.node, record.art, record.kind, record.trust_before_e9, record.trust_e9)
            if stated != shown:
                raise EncodingRefused("the entry says something else than its evidence")
        except RemoteError as error:
            self._add("trust.evidence", place, error.message)
            return
        key = (record.art, record.node)
        begun = next(iter(self._round.values()), record)
        if record.round != begun.round:
            self.finish()
        elif key in self._round:
            # A crash in the middle of a round's entries: the node judged the round again.
            self._round = {}
        self._round[key] = record
        self._place = place

    def mixed(self, place: Place, body: ArtifactIntegrate, node: str) -> None:
        """Holds the coefficients of a mix by `node` against the judgements before it."""
        granted = {
            key: (record.w_e9, record.trust_e9)
            for key, record in self._round.items()
            if record.round == body.round and record.w_e9 > 0
        }
        for part in body.parts:
            if part.node == node or (part.art, part.node) in self._lost:
                continue
            follows = granted.pop((part.art, part.node), None)
            if follows != (part.w_e9, part.trust_e9):
                said = f"{part.node} got {part.w_e9}e-9 with trust {part.trust_e9}e-9"
                then = "no evidence gives it any" if follows is None else f"{follows} follows"
                self._add("integrate.weight", place, f"{said}, but {then}")
        for (_, other), (weight, _) in granted.items():
            self._add("integrate.weight", place, f"{other} was due {weight}e-9 and is left out")
        self._close(whole=True)

    def finish(self) -> None:
        """The round ended without a mix: nothing was granted, or a crash cut its entries off."""
        self._close(whole=False)

    def _close(self, *, whole: bool) -> None:
        """Checks what the judgements of a round share."""
        wrong = disagreements(tuple(self._round.values()), whole=whole)
        if wrong and self._place is not None and not self._lost:
            self._add("trust.evidence", self._place, "; ".join(wrong[:3]))
        self._round, self._lost = {}, set()

    def _add(self, code: str, place: Place, message: str) -> None:
        self._findings.add(code, place.file, message, offset=place.offset, index=place.index)
