"""Reclaiming: what our log names and this home lacks, from whoever holds the artifact still.

A log that came back from peers names envelopes and proofs that did not come with it. Whoever
has the artifact offers both before its payload; we take the offer and leave. Nothing else that
a log names can be had: evidence, evaluations and the proofs of accusations lie in one home only.

An artifact of ours that somebody holds and our log does not name is looked at once with each who
says so: its proof stands under a checkpoint that we signed, and a checkpoint that this log does
not contain means that this copy is not the log that was published. What one neighbour claims or
shows says nothing about what another one has. Times in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.asking import BROKEN
from konsil.node.exchange.errands import Errands
from konsil.node.exchange.regaining import other_history
from konsil.node.transports.transport import ARTIFACT_PROTOCOL
from konsil.protocol import proof
from konsil.protocol.digest import sha256
from konsil.protocol.errors import RemoteError
from konsil.protocol.learning_bodies import ArtifactPublish, ArtifactReceive
from konsil.protocol.transfer import Pull
from konsil.protocol.transfer_turns import OfferReceived

if TYPE_CHECKING:
    from collections.abc import Iterable

    from konsil.node.learning.shelf import Shelf
    from konsil.node.log import Log
    from konsil.node.store.chronicle import Chronicle
    from konsil.node.store.journal import Journal
    from konsil.node.transports.transport import ByteStream, Transport
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member
    from konsil.protocol.messages import Head

OFFER_S = 15.0
CLAIMS = 1024
"""Unknown artifacts of ours that are remembered of one neighbour; older ones are forgotten."""


class Reclaiming:
    """The service that asks every neighbour once, whenever it is linked."""

    def __init__(
        self,
        transport: Transport,
        me: str,
        journal: Journal,
        chronicle: Chronicle,
        shelf: Shelf,
        limits: Limits,
        log: Log,
    ) -> None:
        """Looks up what is missing; `me` is our node id. Reads the disk."""
        self._transport = transport
        self._me = me
        self._journal = journal
        self._chronicle = chronicle
        self._shelf = shelf
        self._limits = limits
        self._log = log
        self._published: set[bytes] = set()
        # Envelopes that are missing, or whose proofs of receipt are.
        self._lacking: dict[bytes, set[bytes]] = {}
        for entry in journal.entries():
            if isinstance(entry.b, ArtifactPublish):
                self._published.add(entry.b.env)
                self._miss(entry.b.env)
            elif isinstance(entry.b, ArtifactReceive):
                self._miss(entry.b.env, entry.b.proof)
        # Who claims which artifacts that we do not know, and whether it was asked for them.
        self._claims: dict[str, dict[bytes, bool]] = {}
        self._errands = Errands(self._visit)
        if self._lacking:
            log.warning("envelopes.missing", count=len(self._lacking))

    @property
    def lacking(self) -> int:
        """Artifacts that our log names, and whose envelope or proof is not here."""
        return len(self._lacking)

    def linked(self, member: Member) -> None:
        """A neighbour came: it may hold what we lack."""
        if self._lacking or not all(self._claims.get(member.node, {}).values()):
            self._errands.stir(member)

    def consider(self, member: Member, heads: Iterable[Head]) -> None:
        """A neighbour says what it holds: are there artifacts of ours that we do not know?"""
        claims = self._claims.setdefault(member.node, {})
        for head in heads:
            if head.publisher != self._me or self._shelf.get(head.env) is not None:
                continue
            if head.env not in self._published and not claims.setdefault(head.env, False):
                self._errands.stir(member)
        while len(claims) > CLAIMS:
            del claims[next(iter(claims))]

    async def run(self) -> None:
        """Ask until cancelled. Raises `VerificationError` when this is not our newest log."""
        await self._errands.run()

    def _miss(self, env: bytes, receipt: bytes | None = None) -> None:
        blobs = self._journal.blobs
        gone = {one for one in (receipt,) if one is not None and not blobs.has(one)}
        if gone or not blobs.has(env):
            self._lacking.setdefault(env, set()).update(gone)

    async def _visit(self, member: Member) -> None:
        found = 0
        try:
            await self._check_claims(member)
            for env in [*self._lacking]:
                offer = await self._offer(member, env) if env in self._lacking else None
                if offer is not None:
                    found += await self._take(env, offer)
        except RemoteError as error:
            self._log.warning("reclaiming.refused", peer=member.name, reason=error.message)
        except BROKEN as error:
            self._log.debug("reclaiming.broken", peer=member.name, reason=repr(error))
        if found:
            self._log.info("envelopes.found", peer=member.name, count=found, missing=self.lacking)

    async def _check_claims(self, member: Member) -> None:
        """Look once at each artifact that it claims; what breaks off is owed still."""
        claims = self._claims.get(member.node, {})
        for env in [env for env, asked in claims.items() if not asked]:
            try:
                offer = await self._offer(member, env)
                if offer is not None:
                    await self._look(member, offer)
            except RemoteError as error:
                self._log.warning("reclaiming.refused", peer=member.name, reason=error.message)
            if env in claims:
                claims[env] = True

    async def _take(self, env: bytes, offer: OfferReceived) -> bool:
        """Keep an envelope, whose digest was asked for, and a proof that our log names.

        Says whether nothing more is missing of this artifact, thanks to this offer.
        """
        await self._chronicle.put(offer.envelope)
        gone = self._lacking.get(env, set())
        if sha256(offer.proof) in gone:
            gone.discard(await self._chronicle.put(offer.proof))
        return not gone and self._lacking.pop(env, None) is not None

    async def _look(self, member: Member, offer: OfferReceived) -> None:
        """Hold the checkpoint in a proof of ours against our log."""
        note = proof.decode(offer.proof, limits=self._limits).checkpoint
        head = self._journal.open_checkpoint(note)
        if await self._chronicle.root_at(head.size) != head.root:
            self._log.error("ledger.forked", peer=member.name, note=note.decode())
            raise other_history(self._journal, member, head)

    async def _offer(self, member: Member, env: bytes) -> OfferReceived | None:
        """What a neighbour offers under this digest; None when it does not, or not now."""
        with trio.fail_after(OFFER_S):
            stream = await self._transport.open_stream(member.peer, ARTIFACT_PROTOCOL)
            try:
                return await self._hear(stream, env)
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                    await stream.aclose()

    async def _hear(self, stream: ByteStream, env: bytes) -> OfferReceived | None:
        machine = Pull(env, limits=self._limits)
        await stream.send_all(machine.start())
        while data := await stream.receive_some():
            for event in machine.receive(data):
                if not isinstance(event, OfferReceived):
                    return None
                await stream.send_all(machine.leave("the envelope was wanted alone"))
                return event
        raise EOFError
