"""Put the shelf back after a restart: what the ledger names and the stores still hold.

A publish or receive entry names envelope and payload by digest. Whatever is no longer in the
stores is left out (it can be pulled again); nothing is invented. Reads only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.node.learning.press import head_of
from konsil.node.learning.shelf import Held, Shelf
from konsil.protocol import envelope
from konsil.protocol.artifact import read_statement
from konsil.protocol.errors import RemoteError
from konsil.protocol.learning_bodies import (
    ArtifactPublish,
    ArtifactReceive,
    ModelTrain,
    TrustUpdate,
)

if TYPE_CHECKING:
    from konsil.node.learning.memory import Memory
    from konsil.node.store.blobs import BlobStore
    from konsil.node.store.journal import Journal
    from konsil.protocol.entries import Entry
    from konsil.protocol.limits import Limits


def restore_shelf(
    journal: Journal, blobs: BlobStore, memory: Memory, me: str, limits: Limits
) -> Shelf:
    """The shelf that the ledger tells; what was judged before is marked as mixed."""
    shelf, number, trained = Shelf(), 1, 0
    for entry in journal.entries():
        if isinstance(entry.b, ModelTrain):
            number = trained = entry.b.round
        elif isinstance(entry.b, TrustUpdate) and entry.b.art is not None:
            number = trained + 1  # a mix ends its round
        held = _held(entry, number, journal, blobs, limits)
        if held is not None:
            shelf.add(held)
    judged = [
        held.head.env for held in shelf if (held.head.publisher, held.head.art) in memory.judged
    ]
    shelf.mark_mixed(judged)
    return shelf


def _held(
    entry: Entry, number: int, journal: Journal, blobs: BlobStore, limits: Limits
) -> Held | None:
    """What a publish or receive entry of round `number` put on the shelf, if it is still here."""
    body = entry.b
    if not isinstance(body, ArtifactPublish | ArtifactReceive):
        return None
    if not blobs.has(body.art) or not journal.blobs.has(body.env):
        return None
    if isinstance(body, ArtifactPublish):
        proof = journal.prove(entry.n)
    elif journal.blobs.has(body.proof):
        proof = journal.blobs.get(body.proof)
    else:
        return None
    sealed = journal.blobs.get(body.env)
    try:
        artifact = read_statement(envelope.unpack(sealed, limits=limits).payload, limits=limits)
    except RemoteError:
        return None
    knowledge = b""
    if artifact.knowledge is not None:
        named = bytes.fromhex(artifact.knowledge)
        if not journal.blobs.has(named):
            return None
        knowledge = journal.blobs.get(named)
    if not blobs.has(bytes.fromhex(artifact.payload.tensors)):
        return None
    return Held(
        head=head_of(artifact, sealed),
        artifact=artifact,
        envelope=sealed,
        proof=proof,
        path=blobs.path(body.art),
        knowledge=knowledge,
        since_round=number,
    )
