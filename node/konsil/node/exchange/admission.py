"""The inbox: what a received artifact must prove before it may wait to be mixed.

Two looks. At the offer: the publisher's signature, its own log's proof of publication, and
everything that the manifest claims. After the transfer: a worker that opens the payload. The
first lie ends it; the refusal names stage, reasons and who answers for it. A holder that
hands on what is badly signed answers for that itself; the publisher answers for what it
signed. Pure but for the facts it is given; it opens no tensor and writes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import envelope, proof
from konsil.protocol.artifact import Artifact, open_sealed
from konsil.protocol.digest import sha256
from konsil.protocol.errors import RemoteError
from konsil.protocol.proof import Published
from konsil.trust import gate

if TYPE_CHECKING:
    from konsil.node.learning.shelf import Shelf
    from konsil.node.learning.worker_messages import Opened
    from konsil.node.roster import Roster
    from konsil.protocol.fields import Code
    from konsil.protocol.learning_bodies import ArtifactPublish
    from konsil.protocol.limits import Limits
    from konsil.protocol.messages import Head


class Refusal(Exception):
    """An artifact that is not taken: at which stage, why, and whose fault it is."""

    def __init__(self, stage: Code, reasons: tuple[Code, ...], culprit: str) -> None:
        super().__init__(f"{stage}: {', '.join(reasons)}")
        self.stage = stage
        self.reasons = reasons
        self.culprit = culprit


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact whose offer holds; its payload is still to come."""

    artifact: Artifact
    envelope: bytes
    proof: bytes
    published: Published


def admit(
    head: Head,
    sealed: bytes,
    proven: bytes,
    *,
    holder: str,
    roster: Roster,
    shelf: Shelf,
    opened: Opened,
    limits: Limits,
) -> Admitted:
    """The artifact in an offer for `head` that `holder` (a node id) made. Raises `Refusal`."""
    author = roster.author(head.publisher)
    if author is None or sha256(sealed) != head.env:
        raise Refusal("offer", ("signature",), holder)
    try:
        artifact = open_sealed(envelope.unpack(sealed, limits=limits), author.keys["art"])
    except RemoteError as error:
        raise Refusal("offer", (error.code,), holder) from error
    if artifact.publisher != head.publisher:
        raise Refusal("offer", ("publisher",), holder)
    try:
        published = proof.open_published(proven, author, limits=limits)
    except RemoteError as error:
        # The proof is no part of what the publisher signed here, so whoever brought it answers.
        raise Refusal("offer", ("unlogged",), holder) from error
    reasons = gate.refusals(_facts(head, artifact, published.body, roster, shelf, opened, limits))
    if reasons:
        raise Refusal("manifest", reasons, head.publisher)
    return Admitted(artifact=artifact, envelope=sealed, proof=proven, published=published)


def _facts(
    head: Head,
    artifact: Artifact,
    logged: ArtifactPublish,
    roster: Roster,
    shelf: Shelf,
    opened: Opened,
    limits: Limits,
) -> gate.Facts:
    newest = shelf.newest(head.publisher, artifact.kind)
    last = 0 if newest is None else newest.head.sequence
    twice = newest is not None and artifact.sequence == last and newest.head.env != head.env
    return gate.Facts(
        logged=_same(artifact, logged, head.env),
        base_ours=artifact.base == opened.base.hex(),
        task_ours=artifact.architecture == opened.architecture.hex()
        and artifact.task == opened.task,
        parents_agree=[bytes.fromhex(parent) for parent in artifact.parents]
        == list(logged.derived_from),
        charter_ours=artifact.charter == roster.charter.hex(),
        sequence=artifact.sequence,
        last_sequence=last,
        size=artifact.payload.size,
        largest=limits.payload_bytes,
        equivocates=twice,
    )


def _same(artifact: Artifact, logged: ArtifactPublish, env: bytes) -> bool:
    """Does the publisher's own log say what its manifest says?"""
    return (
        logged.env == env
        and logged.art.hex() == artifact.payload.digest
        and logged.chunk_root.hex() == artifact.payload.chunk_root
        and logged.size == artifact.payload.size
        and logged.kind == artifact.kind
        and logged.sequence == artifact.sequence
    )
