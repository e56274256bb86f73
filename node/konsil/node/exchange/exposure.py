"""Exposure: what a node writes down about a peer whose log has two histories, or owes an answer.

A fork proof exposes its log for good: it goes into the ledger, where it convinces any stranger,
and the peer is in quarantine until a person acts. Our own ledger is believed at every start, so
no key that the peer revokes later makes us vouch for it again.

An answer that is owed makes a peer suspect until it comes, over restarts too: whoever was suspect
is cleared by an answer, never by our own forgetting what was owed. That is no proof of anything,
and costs nothing. Times in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.learning.memory import OPERATOR_CAUSES
from konsil.protocol.errors import IncompleteError, RemoteError
from konsil.protocol.learning_bodies import TrustUpdate
from konsil.protocol.node_bodies import PeerClear, PeerExposed, PeerSuspect

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.node.exchange.watch import Watch
    from konsil.node.learning.learner import Learner
    from konsil.node.log import Log
    from konsil.node.store.chronicle import Chronicle
    from konsil.node.store.journal import Journal

LOOK_EVERY_S = 10.0
OWES = "consistency"
"""What a suspect owes: the proof that two of its checkpoints belong together."""


class Exposure:
    """Who is exposed and who is suspect, as the ledger says it."""

    def __init__(
        self,
        learner: Learner,
        chronicle: Chronicle,
        watch: Watch,
        journal: Journal,
        clock_s: Callable[[], int],
        log: Log,
    ) -> None:
        """Recalls what the ledger says; `clock_s` gives unix seconds."""
        self._learner = learner
        self._chronicle = chronicle
        self._watch = watch
        self._clock_s = clock_s
        self._log = log
        self._exposed: set[str] = set()
        self._suspect: set[str] = set()
        # Of these the ledger knows that they owe, but nobody here knows what: how much of
        # their logs we held then.
        self._unknown: dict[str, int] = {}
        words: dict[str, str | None] = {}
        for entry in journal.entries():
            body = entry.b
            if isinstance(body, PeerExposed):
                words[body.node] = "quarantined"
                self._recall(body, journal)
            elif isinstance(body, TrustUpdate) and body.cause in OPERATOR_CAUSES:
                words[body.node] = OPERATOR_CAUSES[body.cause]
            elif isinstance(body, PeerSuspect):
                self._suspect.add(body.node)
            elif isinstance(body, PeerClear):
                self._suspect.discard(body.node)
        # A log that came back from peers may have lost the word that went with an exposure.
        for node in words:
            if words[node] == "quarantined":
                learner.memory.operate(node, words[node])
        for node in self._suspect:
            self._unknown[node] = watch.kept(node).size

    def _recall(self, body: PeerExposed, journal: Journal) -> None:
        """Take a fork proof of our own log up again; what is lost of it has to be met again."""
        try:
            self._watch.believe(body.node, journal.blobs.get(body.evidence))
            self._exposed.add(body.node)
        except (IncompleteError, RemoteError) as error:
            self._log.warning("exposure.evidence_lost", node=body.node, reason=error.message)

    async def expose(self, node: str, proof: bytes) -> None:
        """Write a fork proof down, once, and sit no more at one table with its author."""
        async with self._learner.judging:
            if node in self._exposed:
                return
            self._exposed.add(node)
            trust_e9 = self._learner.memory.standing(node).trust_e9
            evidence = await self._chronicle.put(proof)
            receipts = await self._chronicle.append(
                PeerExposed(node=node, kind="fork", evidence=evidence),
                TrustUpdate(
                    node=node,
                    kind=self._learner.memory.kind,
                    art=None,
                    old_e9=trust_e9,
                    new_e9=trust_e9,
                    cause="operator.quarantine",
                    evidence=evidence,
                ),
            )
            self._learner.memory.operate(node, "quarantined", receipts[-1].index)
        self._log.error("peer.exposed", node=node, evidence=evidence.hex())

    async def run(self) -> None:
        """Write down who owes an answer, and who gave it after all, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            for node, proof in self._watch.forks().items():
                await self.expose(node, proof)  # a stop may have come before it was written down
            for node, owes in self._watch.suspects(self._clock_s()).items():
                await self._note(node, owes=owes)

    async def _note(self, node: str, *, owes: bool) -> None:
        """Write down what changed about one node."""
        if owes:
            self._unknown.pop(node, None)
            if node not in self._suspect:
                self._suspect.add(node)
                await self._chronicle.append(PeerSuspect(node=node, kind=OWES, evidence=None))
        elif node in self._suspect and self._answered(node):
            self._suspect.discard(node)
            await self._chronicle.append(PeerClear(node=node, kind=OWES, evidence=None))

    def _answered(self, node: str) -> bool:
        """Whether a suspect that owes nothing any more has shown something since it did.

        What we hold of a log grows only by entries that lead on, from what we held, to a root
        that it signed.
        """
        return node not in self._unknown or self._watch.kept(node).size > self._unknown[node]
