"""Export policy: may an artifact leave? One pure function, run by the sender and by the audit.

Everything is forbidden that no rule of the charter in force allows. A decision is a record;
its digest stands in the entry that publishes the artifact, so that the audit can decide again
and see that the sender decided so, under that charter and with that much privacy spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import records
from konsil.protocol.digest import Digest, sha256
from konsil.protocol.fields import Code, Count
from konsil.protocol.records import DigestField

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.charter import ExportRule


class PolicyState(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision depends on besides the manifest: the charter in force, and the privacy
    that the dataset which paid most has paid so far (ε in 1e-6)."""

    charter: bytes
    spent_micro: int


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether an artifact may leave, and which rules are against it (ascending)."""

    allow: bool
    codes: tuple[Code, ...]
    art: DigestField
    charter: DigestField
    spent_micro: Count

    def digest(self) -> Digest:
        """The digest that stands in the entry."""
        return sha256(records.pack(self))


def decide(manifest: Artifact, policy: Sequence[ExportRule], state: PolicyState) -> Decision:
    """The decision about an artifact; it depends on the arguments alone."""
    rule = next((rule for rule in policy if rule.kind == manifest.kind), None)
    codes = ("kind",) if rule is None else tuple(sorted(_against(manifest, rule, state)))
    return Decision(
        allow=not codes,
        codes=codes,
        art=bytes.fromhex(manifest.payload.digest),
        charter=state.charter,
        spent_micro=state.spent_micro,
    )


def _against(manifest: Artifact, rule: ExportRule, state: PolicyState) -> Iterator[str]:
    """Absent means unknown: a class of unknown size is smaller than any bound."""
    coverage, privacy = manifest.coverage, manifest.privacy
    if coverage.rows < rule.min_cohort:
        yield "cohort"
    if any(item.rows < rule.min_label_rows for item in coverage.classes):
        yield "labels"
    if rule.mechanisms and privacy.mechanism not in rule.mechanisms:
        yield "mechanism"
    if privacy.epsilon_micro > rule.max_release_micro:
        yield "release"
    if state.spent_micro > rule.max_total_micro:
        yield "total"
    if privacy.delta_e12 > rule.max_delta_e12:
        yield "delta"
    if manifest.payload.size > rule.max_bytes:
        yield "size"
