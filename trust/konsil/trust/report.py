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
from konsil.trust.meanings import meaning
from konsil.trust.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

TAMPERED = 3
INCOMPLETE = 4
CONDUCT = 1
COPIED = "; if these are copies taken while the nodes ran, copy again after `konsil node stop`"
"""What a finding adds that a copy of a running node's files may cause as well."""

HEADLINES: Mapping[int, str] = MappingProxyType(
    {
        TAMPERED: "DOES NOT VERIFY",
        INCOMPLETE: "verified as far as it goes",
        CONDUCT: "verified, with findings",
        0: "verified",
    }
)
"""What is said of a ledger by the exit code that its findings lead to."""

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
        "entry.pruned": INCOMPLETE,
        "entry.lost": INCOMPLETE,
        "key.change": TAMPERED,
        "boot.state": TAMPERED,
        "checkpoint.corrupt": TAMPERED,
        "checkpoint.rollback": TAMPERED,
        "checkpoint.root": TAMPERED,
        "checkpoint.behind": INCOMPLETE,
        "cosigned.corrupt": TAMPERED,
        "cosigned.unknown": INCOMPLETE,
        "cosigned.time": CONDUCT,
        "blob.corrupt": TAMPERED,
        "blob.missing": INCOMPLETE,
        "publish.envelope": TAMPERED,
        "publish.revoked": CONDUCT,
        "publish.sequence": CONDUCT,
        "publish.equivocation": TAMPERED,
        "receive.envelope": TAMPERED,
        "receive.proof": TAMPERED,
        "receive.revoked": CONDUCT,
        "integrate.sum": TAMPERED,
        "integrate.unlogged": CONDUCT,
        "integrate.weight": CONDUCT,
        "integrate.rule": CONDUCT,
        "integrate.replay": TAMPERED,
        "integrate.unreplayed": INCOMPLETE,
        "trust.evidence": CONDUCT,
        "trust.chain": CONDUCT,
        "trust.refusal": CONDUCT,
        "trust.operator": CONDUCT,
        "trust.training": CONDUCT,
        "trust.share": CONDUCT,
        "privacy.sum": CONDUCT,
        "privacy.order": CONDUCT,
        "privacy.dataset": CONDUCT,
        "policy.decision": CONDUCT,
        "deploy.unknown": CONDUCT,
        "withdraw.foreign": CONDUCT,
        "withdraw.deadline": CONDUCT,
        "withdraw.late": CONDUCT,
        "withdraw.missing": CONDUCT,
        "withdraw.claim": CONDUCT,
        "withdraw.deployed": CONDUCT,
        "redact.refused": CONDUCT,
        "charter.chain": CONDUCT,
        "charter.fork": TAMPERED,
        "member.unknown": CONDUCT,
        "inference.root": TAMPERED,
        "peer.accusation": TAMPERED,
        "peers.witnessed": TAMPERED,
        "peers.mirror": TAMPERED,
        "peers.genesis": TAMPERED,
        "peers.unknown": INCOMPLETE,
        "lineage.gap": CONDUCT,
        "lineage.cycle": TAMPERED,
        "lineage.reused": CONDUCT,
        "lineage.claim": CONDUCT,
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
        """Notes one finding, names and words of others made printable.

        Raises `LocalProtocolError` for a code that is not in `CODES`.
        """
        if code not in CODES:
            raise LocalProtocolError(f"`{code}` is no finding code")
        self.found.append(
            Finding(
                code=code,
                ledger=printable(self.ledger),
                file=printable(str(file)),
                message=printable(message),
                offset=offset,
                index=index,
                evidence=None if evidence is None else printable(str(evidence)),
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
    """Entries after it, which carry no signature yet."""
    running: bool
    """Whether a process held the ledger open for writing."""
    types: dict[str, int]
    """Entries by type."""
    opaque: int
    """Entries of a type that this version does not know."""
    redacted: int
    """Bodies that went for a legal reason, as an entry says."""
    blobs: int
    payloads: int
    replayed: int
    """Mixes that were computed again, bit for bit."""
    not_replayed: int
    """Mixes whose payloads are not here, or that nobody asked to compute again."""
    taught: int = 0
    """Models taught by others' answers, which nobody but the hospital can compute again."""
    asked: bool = False
    """Whether its mixes were to be computed again."""
    lost: int = 0
    """Entries that are missing or were changed."""
    outside_checkpoints: int
    """Checkpoints of this log that others hold and that agree with it."""
    unchecked_receipts: int
    """Received artifacts whose publisher's keys are not at hand."""
    verified: bool
    """No finding of tampering and nothing missing."""
    exit_code: int = 0
    """The exit code that the findings about it lead to."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an audit over one or several ledgers."""

    ledgers: tuple[LedgerSummary, ...]
    findings: tuple[Finding, ...]
    notices: tuple[Finding, ...] = ()
    """What is a finding only under `--strict`."""

    @property
    def checked_against_others(self) -> bool:
        """Whether every ledger was held against at least one checkpoint from outside."""
        return all(item.outside_checkpoints for item in self.ledgers)

    def strictly(self) -> Report:
        """The report under `--strict`: every notice is a finding."""
        noticed = {item.file for item in self.notices}
        ledgers = tuple(
            msgspec.structs.replace(item, exit_code=gravest((item.exit_code, INCOMPLETE)))
            if item.home in noticed
            else item
            for item in self.ledgers
        )
        return Report(ledgers=ledgers, findings=self.findings + self.notices)

    def exit_code(self, *, strict: bool = False) -> int:
        """0 when all is well; under `strict` notices count as well (4)."""
        findings = self.strictly().findings if strict else self.findings
        return gravest(item.exit_code for item in findings)

    def to_data(self) -> dict[str, object]:
        """The `data` object of `konsil audit verify --json`."""
        return {
            "ledgers": [msgspec.structs.asdict(item) for item in self.ledgers],
            "findings": [_data(item) for item in self.findings],
            "notices": [_data(item) for item in self.notices],
            "checked_against_others": self.checked_against_others,
        }

    def lines(self) -> list[str]:
        """The report in lines for a person."""
        told = []
        for item in self.ledgers:
            verdict = HEADLINES[item.exit_code]
            lost = f", {item.lost} cannot be read" if item.lost else ""
            beyond = f", {item.beyond_checkpoint} not signed yet" if item.beyond_checkpoint else ""
            mixes = ""
            if item.asked:
                mixes = f", {item.replayed} of {item.replayed + item.not_replayed} mixes"
                mixes += " computed again"
                mixes += f", {item.taught} taught by answers" if item.taught else ""
            gone = f", structure verified, {item.redacted} bodies redacted" if item.redacted else ""
            told.append(
                f"{item.name} ({item.node_id[:8]}): {item.entries} entries{lost}{beyond},"
                f" {item.blobs} blobs{mixes}{gone}: {verdict}"
            )
        told.extend(f"{item.ledger}: {item.message}" for item in self.notices)
        told.extend(item.line() for item in self.findings)
        codes = dict.fromkeys(item.code for item in self.findings)
        told.extend(f"what {code} means: {meaning(code)}" for code in codes)
        return told


def gravest(codes: Iterable[int]) -> int:
    """The exit code of several findings: 3 before 4, and 4 before 1."""
    found = set(codes)
    return next((code for code in (TAMPERED, INCOMPLETE, CONDUCT) if code in found), 0)


def notices_about(item: LedgerSummary) -> tuple[Finding, ...]:
    """What the audit of a ledger leaves open: nobody vouches for it, or not all is signed.

    A running node signs its newest entries later, at the latest when it stops.
    """
    told = []
    if item.beyond_checkpoint and not item.running:
        count = item.beyond_checkpoint
        words = "1 entry {} carries" if count == 1 else f"{count} entries {{}} carry"
        message = words.format("after the last checkpoint") + (
            " no signature; start and stop the node to have them signed"
        )
        told.append(("checkpoint.behind", message))
    if not item.outside_checkpoints:
        told.append(("others.unchecked", "not checked against others"))
    return tuple(
        Finding(code=code, ledger=item.name, file=item.home, message=message)
        for code, message in told
    )


def _data(item: Finding) -> dict[str, object]:
    return {
        **msgspec.structs.asdict(item), "exit_code": item.exit_code, "meaning": meaning(item.code),
    }  # fmt: skip
