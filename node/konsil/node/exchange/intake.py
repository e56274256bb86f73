"""From a finished transfer to an artifact that waits to be mixed, or to a logged refusal.

The payload goes to the worker for a look, then by digest into the store, then into the
ledger, and only then onto the shelf. Every refusal is an entry with its reasons, and costs
whoever answers for it some trust; two artifacts under one number cost a place at the table
until a person acts, and both envelopes stay as the proof.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.admission import Admitted, Refusal
from konsil.node.exchange.references import Unmet, require
from konsil.node.learning.press import head_of
from konsil.node.learning.shelf import Held, Shelf
from konsil.node.learning.worker_messages import Check, Checked
from konsil.protocol import records
from konsil.protocol.errors import ConfigError, TaskError, VerificationError
from konsil.protocol.learning_bodies import ArtifactReceive, ArtifactReject, TrustUpdate
from konsil.trust import gate, score
from konsil.trust.gate import PENALTY_CAUSE, Penalty

if TYPE_CHECKING:
    from pathlib import Path

    from konsil.node.learning.learner import Learner
    from konsil.node.learning.memory import Memory
    from konsil.node.learning.trainer import Trainer
    from konsil.node.log import Log
    from konsil.node.store.blobs import BlobStore
    from konsil.node.store.chronicle import Chronicle
    from konsil.protocol.entries import Body
    from konsil.protocol.messages import Head


class Intake:
    """Takes artifacts in, or refuses them, in the ledger's sight."""

    def __init__(
        self,
        blobs: BlobStore,
        chronicle: Chronicle,
        shelf: Shelf,
        trainer: Trainer,
        learner: Learner,
        log: Log,
    ) -> None:
        self.received = 0
        self.rejected = 0
        self._blobs = blobs
        self._chronicle = chronicle
        self._shelf = shelf
        self._trainer = trainer
        self._learner = learner
        self._memory: Memory = learner.memory
        self._log = log

    async def take(self, head: Head, admitted: Admitted, path: Path) -> None:
        """Check, store, log and shelve one artifact. Raises `Refusal`."""
        try:
            checked = await self._trainer.ask(self._question(admitted, path), Checked)
        except (TaskError, ConfigError) as error:
            self._log.warning("artifact.unchecked", error=error.diagnostics())
            return
        except Unmet as unmet:
            self._log.warning("artifact.unchecked", error=f"lost what it is a change of: {unmet}")
            return
        if checked.reasons:
            raise Refusal("payload", checked.reasons, head.publisher)
        try:
            art = bytes.fromhex(admitted.artifact.payload.digest)
            stored = await trio.to_thread.run_sync(self._blobs.put_file, path, art)
        except VerificationError:
            # Our own spool file is damaged (chunks were verified as they came): fetch it again.
            self._log.warning("spool.damaged", env=head.env.hex())
            await trio.Path(path).unlink(missing_ok=True)
            return
        if admitted.knowledge:
            await self._chronicle.put(admitted.knowledge)
        index = await self._log_receipt(admitted)
        held = Held(
            head=head_of(admitted.artifact, admitted.envelope),
            artifact=admitted.artifact,
            envelope=admitted.envelope,
            proof=admitted.proof,
            path=stored,
            knowledge=admitted.knowledge,
            since_round=self._memory.current,
        )
        self._memory.received(held.head.art, held.head.publisher, index, held.head.env)
        self._shelf.add(held)
        self.received += 1
        self._learner.arrivals.note(head.publisher)
        self._log.info("artifact.received", publisher=head.publisher, sequence=head.sequence)

    def _question(self, admitted: Admitted, path: Path) -> Check:
        """What the worker is to look at. Raises `Unmet` when what it is a change of has gone."""
        require(admitted, self._shelf)
        artifact = admitted.artifact
        payload, tensors = artifact.payload, None
        if payload.reference is not None:
            held = self._shelf.get(bytes.fromhex(payload.reference))
            assert held is not None
            tensors = bytes.fromhex(held.artifact.payload.tensors)
        return Check(
            path=str(path),
            form=bytes.fromhex(artifact.architecture),
            format=payload.format,
            reference=tensors,
            tensors=bytes.fromhex(payload.tensors),
        )

    async def refuse(self, head: Head, refusal: Refusal) -> None:
        """Log a refusal and what it costs; while a mix runs, as soon as that is logged.

        A mix weighs peers by their standing at its start, and what it finds goes on from there.
        """
        async with self._learner.judging:
            await self._penalise(head, refusal)
        self.rejected += 1
        if refusal.culprit == head.publisher:
            self._learner.arrivals.note(head.publisher)

    async def _penalise(self, head: Head, refusal: Refusal) -> None:
        """The entries of a refusal, and then the same in memory."""
        kind = self._memory.judged_as(head.kind)
        standing = self._memory.standing(refusal.culprit, kind)
        before = standing.score
        after = score.penalised(before)
        penalty = Penalty(
            node=refusal.culprit,
            kind=kind,
            stage=refusal.stage,
            reasons=refusal.reasons,
            env=head.env,
            r_e9=after.r_e9,
            s_before_e9=before.s_e9,
            s_after_e9=after.s_e9,
        )
        if refusal.envelope:
            await self._chronicle.put(refusal.envelope)
        evidence = await self._chronicle.put(records.pack(penalty))
        reject = ArtifactReject(
            art=head.art,
            publisher=refusal.culprit,
            env=head.env,
            stage=refusal.stage,
            reasons=list(refusal.reasons),
            evidence=evidence,
        )
        update = TrustUpdate(
            node=refusal.culprit,
            kind=kind,
            art=None,
            old_e9=score.trust(before),
            new_e9=score.trust(after),
            cause=PENALTY_CAUSE,
            evidence=evidence,
        )
        bodies: list[Body] = [reject, update]
        if gate.quarantines(refusal.reasons):
            bodies.append(_quarantine(update, evidence))
        receipts = await self._chronicle.append(*bodies)
        self._memory.penalise(refusal.culprit, penalty)
        if gate.quarantines(refusal.reasons):
            self._memory.operate(refusal.culprit, "quarantined", receipts[-1].index)

    async def _log_receipt(self, admitted: Admitted) -> int:
        """The index of its entry."""
        published = admitted.published
        (receipt,) = await self._chronicle.append(
            ArtifactReceive(
                art=bytes.fromhex(admitted.artifact.payload.digest),
                publisher=admitted.artifact.publisher,
                env=await self._chronicle.put(admitted.envelope),
                index=published.entry.n,
                size=published.checkpoint.size,
                root=published.checkpoint.root,
                proof=await self._chronicle.put(admitted.proof),
            )
        )
        return receipt.index


def _quarantine(update: TrustUpdate, evidence: bytes) -> TrustUpdate:
    return TrustUpdate(
        node=update.node,
        kind=update.kind,
        art=None,
        old_e9=update.new_e9,
        new_e9=update.new_e9,
        cause="operator.quarantine",
        evidence=evidence,
    )
