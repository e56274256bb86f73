"""What an audit found, and the exit code that follows.

A `Finding` names what is wrong by a stable code, where (file, byte offset, entry index) and
what shows it. Tampering, fork and rollback end with 3, missing things with 4, broken rules
of conduct with 1; when several apply 3 wins over 4 and 4 over 1.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TAMPERED = 3
INCOMPLETE = 4
CONDUCT = 1

CODES: Mapping[str, int] = MappingProxyType(
    {
        "layout.stray": TAMPERED,
        "layout.missing": TAMPERED,
        "layout.oversize": TAMPERED,
        "tail.corrupt": TAMPERED,
        "tail.torn": INCOMPLETE,
        "bundle.corrupt": TAMPERED,
        "bundle.missing": INCOMPLETE,
        "tile.mismatch": TAMPERED,
        "tile.missing": INCOMPLETE,
        "entry.encoding": TAMPERED,
        "entry.position": TAMPERED,
        "entry.genesis": TAMPERED,
        "entry.salt": TAMPERED,
        "entry.time": CONDUCT,
        "checkpoint.corrupt": TAMPERED,
        "checkpoint.rollback": TAMPERED,
        "checkpoint.root": TAMPERED,
        "blob.corrupt": TAMPERED,
        "blob.missing": INCOMPLETE,
        "publish.envelope": TAMPERED,
        "publish.sequence": CONDUCT,
        "publish.equivocation": TAMPERED,
        "receive.envelope": TAMPERED,
        "receive.proof": TAMPERED,
        "integrate.sum": TAMPERED,
        "integrate.unlogged": CONDUCT,
        "integrate.weight": CONDUCT,
        "integrate.replay": TAMPERED,
        "trust.evidence": CONDUCT,
        "lineage.gap": CONDUCT,
        "lineage.cycle": TAMPERED,
        "lineage.reused": CONDUCT,
        "others.fork": TAMPERED,
        "others.rollback": TAMPERED,
        "others.unpublished": TAMPERED,
        "others.time": CONDUCT,
        "others.unchecked": INCOMPLETE,
    }
)
"""Every finding code and the exit code it leads to; the meanings are in docs/spec/ledger.md."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. `offset` is in bytes, `index` an entry of the ledger."""

    code: str
    ledger: str
    file: str
    message: str
    offset: int | None = None
    index: int | None = None
    evidence: str | None = None

    @property
    def exit_code(self) -> int:
        """The exit code that this finding alone leads to."""
        return CODES[self.code]

    def line(self) -> str:
        """The finding in one line for a person."""
        place = self.file
        if self.offset is not None:
            place += f" offset {self.offset}"
        if self.index is not None:
            place += f" entry {self.index}"
        return f"{self.code}: {place}: {self.message}"


class Findings:
    """The growing list of findings about one ledger."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self.found: list[Finding] = []

    def add(
        self,
        code: str,
        file: Path,
        message: str,
        *,
        offset: int | None = None,
        index: int | None = None,
        evidence: Path | None = None,
    ) -> None:
        """Notes one finding. Raises `LocalProtocolError` for a code that is not in `CODES`."""
        if code not in CODES:
            raise LocalProtocolError(f"`{code}` is no finding code")
        self.found.append(
            Finding(
                code=code,
                ledger=self.ledger,
                file=str(file),
                message=message,
                offset=offset,
                index=index,
                evidence=None if evidence is None else str(evidence),
            )
        )


class LedgerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One audited ledger in figures."""

    home: str
    name: str
    node_id: str
    origin: str
    entries: int
    root: str
    signed: int
    """Entries under its checkpoint."""
    beyond_checkpoint: int
    types: dict[str, int]
    """Entries by type."""
    opaque: int
    """Entries of a type that this version does not know."""
    blobs: int
    payloads: int
    replayed: int
    """Mixes that were computed again, bit for bit."""
    not_replayed: int
    """Mixes whose payloads are not here, or that nobody asked to compute again."""
    outside_checkpoints: int
    """Checkpoints of this log that others hold and that agree with it."""
    unchecked_receipts: int
    """Received artifacts whose publisher's keys are not at hand."""
    verified: bool
    """No finding of tampering and nothing missing."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit over one or several ledgers."""

    ledgers: tuple[LedgerSummary, ...]
    findings: tuple[Finding, ...]

    @property
    def checked_against_others(self) -> bool:
        """Whether every ledger was held against at least one checkpoint from outside."""
        return all(item.outside_checkpoints for item in self.ledgers)

    def demanding_others(self) -> Report:
        """The report under `--strict`: a ledger that no peer vouches for is a finding."""
        alone = tuple(
            Finding(
                code="others.unchecked",
                ledger=item.name,
                file=item.home,
                message="not checked against others",
            )
            for item in self.ledgers
            if not item.outside_checkpoints
        )
        return Report(ledgers=self.ledgers, findings=self.findings + alone)

    def exit_code(self, *, strict: bool = False) -> int:
        """0 when all is well; `strict` also demands a checkpoint from outside (4 without)."""
        findings = self.demanding_others().findings if strict else self.findings
        codes = {item.exit_code for item in findings}
        return next((code for code in (TAMPERED, INCOMPLETE, CONDUCT) if code in codes), 0)

    def to_data(self) -> dict[str, object]:
        """The `data` object of `konsil audit verify --json`."""
        findings = [
            {**msgspec.structs.asdict(item), "exit_code": item.exit_code} for item in self.findings
        ]
        return {
            "ledgers": [msgspec.structs.asdict(item) for item in self.ledgers],
            "findings": findings,
            "checked_against_others": self.checked_against_others,
        }

    def lines(self) -> list[str]:
        """The report in lines for a person."""
        told = []
        for item in self.ledgers:
            verdict = "verified" if item.verified else "DOES NOT VERIFY"
            beyond = f", {item.beyond_checkpoint} not signed yet" if item.beyond_checkpoint else ""
            mixes = f", {item.replayed} mixes computed again" if item.replayed else ""
            told.append(
                f"{item.name} ({item.node_id[:8]}): {item.entries} entries{beyond},"
                f" {item.blobs} blobs{mixes}: {verdict}"
            )
            if not item.outside_checkpoints:
                told.append(f"{item.name}: not checked against others")
        told.extend(item.line() for item in self.findings)
        return told
