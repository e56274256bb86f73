"""What people and the node itself decide: every entry that is neither learning nor trust.

`Office` takes them in the order of the log and hands each to the rules of its matter; what
only other homes can show is kept for `konsil.trust.withdrawal` and `konsil.trust.others`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.entries import fault_of
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.learning_bodies import PrivacySpend, UnlearnDone
from konsil.protocol.node_bodies import LogRedact, NodeBoot, PeerExposed
from konsil.protocol.office_bodies import (
    ArtifactWithdraw,
    CharterAdopt,
    CharterVote,
    HumanOverride,
    InferenceBatch,
    MemberAdd,
    MemberRemove,
    MemberSuspend,
    ModelDeploy,
    ModelRetire,
    ModelRollback,
    WithdrawAck,
)
from konsil.trust.bedside import Bedside
from konsil.trust.charters import Charters
from konsil.trust.deployment import Deployment
from konsil.trust.export_policy import PolicyState, decide
from konsil.trust.redaction import Redactions
from konsil.trust.spending import Spending
from konsil.trust.structure import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.entries import Entry
    from konsil.protocol.keyring import Keyring
    from konsil.protocol.learning_bodies import ArtifactPublish
    from konsil.trust.fence import Fence
    from konsil.trust.margin import Margin
    from konsil.trust.structure import Structure


class Withdrawn(msgspec.Struct, frozen=True, gc=False):
    """An artifact.withdraw entry of this log."""

    place: Place
    time_ms: int
    body: ArtifactWithdraw


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """A withdraw.ack entry of this log."""

    place: Place
    time_ms: int
    body: WithdrawAck


class Office:
    """The rules over one log that are about decisions; feed it with `take`, then `finish`."""

    def __init__(
        self,
        node: str,
        ring: Callable[[str], Keyring | None],
        margin: Margin,
        knows: Callable[[Place, bytes], bool],
        home: Path | None,
    ) -> None:
        """`ring` gives the keys of a node, `knows` says whether the log made or received a
        model, both by what was read so far; in `home` records of use may lie."""
        self.withdrawn: dict[int, Withdrawn] = {}
        self.acknowledged: list[Acknowledged] = []
        self.hidden_answers: list[int] = []
        """The times of answers to withdrawals whose bodies were redacted, in order."""
        self.charters = Charters(node, ring, margin)
        self.spending = Spending(margin)
        self.deployment = Deployment(margin, knows)
        self.redactions = Redactions(margin)
        self._bedside = Bedside(margin, home)
        self._ring = ring
        self._margin = margin
        self._boots: list[tuple[Place, NodeBoot]] = []
        self._published: set[bytes] = set()

    def take(self, place: Place, entry: Entry) -> None:
        """Holds the next entry against the rules of its matter; others are passed over."""
        body = entry.b
        if isinstance(body, InferenceBatch):
            self._bedside.batch(place, body)
        elif isinstance(body, HumanOverride):
            self._bedside.override(place, body)
        elif isinstance(body, PrivacySpend):
            self.spending.spend(place, body)
        elif isinstance(body, ModelDeploy):
            self.deployment.deploy(place, body)
        elif isinstance(body, ModelRollback):
            self.deployment.rollback(place, body)
        elif isinstance(body, ModelRetire):
            self.deployment.retire(place, body)
        elif isinstance(body, ArtifactWithdraw):
            self._withdraw(place, entry, body)
        elif isinstance(body, WithdrawAck):
            self.acknowledged.append(Acknowledged(place, entry.ts, body))
        elif isinstance(body, UnlearnDone):
            self._margin.blob(place, body.verification, "what verifies an unlearning")
        else:
            self._govern(place, entry)

    def _govern(self, place: Place, entry: Entry) -> None:
        body = entry.b
        if isinstance(body, CharterVote):
            self.charters.voted(place, body)
        elif isinstance(body, CharterAdopt):
            self.charters.adopted(place, entry, body)
        elif isinstance(body, MemberAdd | MemberSuspend | MemberRemove):
            self.charters.member(place, entry, body)
        elif isinstance(body, PeerExposed):
            self._exposed(place, body)
        elif isinstance(body, LogRedact):
            rules = self.charters.of(entry.c)
            windows = {} if rules is None else rules.retention_ms
            self.redactions.redact(place, entry, body, windows)
        elif isinstance(body, NodeBoot):
            self._boots.append((place, body))
            if fault := fault_of(body):
                self._margin.add("boot.state", place, fault)
            else:
                self.redactions.booted(body)

    def published(
        self, place: Place, entry: Entry, body: ArtifactPublish, manifest: Artifact | None
    ) -> None:
        """An artifact leaves: what it cost was said before, and the policy allows it."""
        self._published.add(body.art)
        self.charters.acted(place, entry)
        if manifest is not None:
            self.spending.published(place, manifest)
        rules = self.charters.of(entry.c)
        if rules is None or not rules.export:
            return
        if body.policy is None:
            self._margin.add("policy.decision", place, "no decision, and a policy is in force")
        elif manifest is not None:
            state = PolicyState(charter=entry.c, spent_micro=self.spending.most_micro)
            decision = decide(manifest, rules.export, state)
            # A redacted price can only add to what was spent: what is forbidden stays forbidden.
            if not decision.allow:
                against = ", ".join(decision.codes)
                self._margin.add("policy.decision", place, f"the policy forbids it: {against}")
            elif self.spending.is_whole and decision.digest() != body.policy:
                self._margin.add("policy.decision", place, "another decision follows")

    def hidden(self, place: Place, body: LogRedact) -> None:
        """The next entry was redacted; `body` proves of which type it was."""
        if body.kind == "privacy.spend":
            self.spending.hidden(body.leaf)
        elif body.kind == "inference.batch":
            self._bedside.hidden(place.index)
        elif body.kind == "withdraw.ack":
            self.hidden_answers.append(body.written_ms)

    def finish(self, structure: Structure, seen: Fence | None = None) -> None:
        """The log has ended: what its own tree and files can show.

        `seen` tells when others had cosigned it.
        """
        for place, body in self._boots:
            try:
                if not structure.knows(body.size):
                    continue  # the tail is damaged, and that is a finding
                if body.size != place.index or structure.root(body.size) != body.root:
                    message = f"the log before it had not {body.size} entries with this root"
                    self._margin.add("boot.state", place, message)
            except ManifestRefused:
                continue  # entries are missing, and that is a finding
        self.redactions.check(structure, seen)

    def _withdraw(self, place: Place, entry: Entry, body: ArtifactWithdraw) -> None:
        self.withdrawn[place.index] = Withdrawn(place, entry.ts, body)
        if body.art not in self._published:
            message = f"{body.art.hex()[:16]}… was never published by this node"
            self._margin.add("withdraw.foreign", place, message)

    def _exposed(self, place: Place, body: PeerExposed) -> None:
        """An accusation that a stranger must be able to check."""
        limit = self._margin.limits.message_bytes
        data = self._margin.blob(place, body.evidence, "the proof of an accusation", limit=limit)
        if data is None:
            return
        if self._ring(body.node) is None:
            message = f"the genesis entry of {body.node} is not here to check its accusation"
            self._margin.add("blob.missing", place, message)
            return
        try:
            self.charters.prove_fork(data, body.node)
        except RemoteError as error:
            path = self._margin.path(body.evidence)
            message = f"nothing proves that {body.node} forked its log: {error.message}"
            self._margin.add("peer.accusation", place, message, path)
