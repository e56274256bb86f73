"""What the ledgers of a run say, as facts: models by round, judgements, verdicts.

Reads files only, beside running daemons or after them, and imports no torch. A ledger that
cannot be read is a verdict, not an error: the run is still told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.node.paths import Home
from konsil.node.store.blobs import BlobStore
from konsil.protocol import records
from konsil.protocol.entries import Body, Entry
from konsil.protocol.errors import KonsilError
from konsil.protocol.learning_bodies import ArtifactIntegrate, ModelTrain, TrustUpdate
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.simulations.facts import Judgement, LedgerFacts
from konsil.trust.contribution import helps
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.gate import PENALTY_CAUSE
from konsil.trust.layout import scan
from konsil.trust.reasons import moved
from konsil.trust.report import CONDUCT, INCOMPLETE, TAMPERED, Findings
from konsil.trust.walking import walk

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from konsil.trust.report import Finding, LedgerSummary
    from konsil.trust.structure import Place

UNIT_E9 = 1e9


class Story(msgspec.Struct, kw_only=True):
    """One hospital's ledger, in order, with the own round in which each entry was made."""

    name: str
    told: list[tuple[int, Body]]
    evidence: dict[bytes, EvidenceRecord]
    """The records of its judgements, by digest."""

    def model_after(self, at: int) -> str | None:
        """The model (hex) at the end of an own round: the mix, or else what was trained."""
        found = None
        for number, body in self.told:
            if number == at and isinstance(body, ModelTrain | ArtifactIntegrate):
                found = body.out.hex()
        return found

    def final(self) -> bytes | None:
        """The newest model."""
        outs = [b.out for _, b in self.told if isinstance(b, ModelTrain | ArtifactIntegrate)]
        return outs[-1] if outs else None


def read(homes: Mapping[str, Path]) -> dict[str, Story]:
    """The story of every hospital; empty where the ledger cannot be read."""
    return {name: _story(name, Home(root)) for name, root in homes.items()}


def _story(name: str, home: Home) -> Story:
    story = Story(name=name, told=[], evidence={})
    blobs = BlobStore(home.ledger / "blobs")
    number = 0
    try:
        for entry in entries_of(home):
            body = entry.b
            if isinstance(body, ModelTrain):
                number = body.round
            if isinstance(body, TrustUpdate):
                record = _record(blobs, body.evidence)
                if record is not None:
                    story.evidence[body.evidence] = record
            story.told.append((number, body))
    except (KonsilError, FileNotFoundError):
        return story
    return story


def entries_of(home: Home) -> list[Entry]:
    """The entries of a home's ledger that can be read. Raises `StorageError`."""
    found: list[Entry] = []

    def keep(_: Place, entry: Entry) -> None:
        found.append(entry)

    findings = Findings(home.root.name)
    walk(scan(home.ledger, findings), findings, DEFAULT_LIMITS, keep)
    return found


def _record(blobs: BlobStore, digest: bytes) -> EvidenceRecord | None:
    """The judgement behind a digest; None for another kind of evidence, or none at hand."""
    try:
        return records.unpack(blobs.get(digest), EvidenceRecord)
    except KonsilError:
        return None


def judgements(stories: Mapping[str, Story], nodes: Mapping[str, str]) -> tuple[Judgement, ...]:
    """Every judgement in the ledgers, in their order; `nodes` are node ids by name."""
    names = {node: name for name, node in nodes.items()}
    found = []
    for story in stories.values():
        for number, body in story.told:
            if not isinstance(body, TrustUpdate) or body.node not in names:
                continue
            record = story.evidence.get(body.evidence)
            found.append(
                Judgement(
                    observer=story.name,
                    peer=names[body.node],
                    round=number,
                    trust=body.new_e9 / UNIT_E9,
                    granted=None if record is None else granted_share(record),
                    before=body.old_e9 / UNIT_E9,
                    why=_why(body, record),
                    helped=None if record is None else helps(record),
                )
            )
    return tuple(found)


def _why(body: TrustUpdate, record: EvidenceRecord | None) -> str:
    """What moved trust, in words."""
    if record is not None:
        return moved(record)
    return "refused before it was judged" if body.cause == PENALTY_CAUSE else body.cause


def granted_share(record: EvidenceRecord) -> float | None:
    """w / W of one judgement: the share of the topology's weight that was granted."""
    if record.metropolis_e9 == 0:
        return None
    return record.w_e9 / record.metropolis_e9


def verify(homes: Mapping[str, Path]) -> tuple[LedgerFacts, ...]:
    """Each ledger verified from its files, held against the others, every mix replayed."""
    from konsil.trust.audit import verify_homes

    try:
        report = verify_homes(list(homes.values()), replay=True)
    except KonsilError as error:
        words = (error.diagnostics(),)
        return tuple(
            LedgerFacts(
                name=name, entries=0, root="", verified=False, findings=words, grade=error.exit_code
            )
            for name in homes
        )
    return tuple(
        _verdict(name, summary, [f for f in report.findings if f.ledger == homes[name].name])
        for name, summary in zip(homes, report.ledgers, strict=True)
    )


def _verdict(name: str, summary: LedgerSummary, findings: Sequence[Finding]) -> LedgerFacts:
    codes = {finding.exit_code for finding in findings}
    return LedgerFacts(
        name=name,
        entries=summary.entries,
        root=summary.root,
        verified=summary.verified,
        findings=tuple(finding.line() for finding in findings),
        grade=next((code for code in (TAMPERED, INCOMPLETE, CONDUCT) if code in codes), 0),
    )
