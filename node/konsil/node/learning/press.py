"""Publishing: seal a manifest, log it, prove that it is logged, and only then show it.

An artifact travels with the inclusion proof of its own publish entry, so nobody can hand one
out and keep it out of the log, and with the knowledge manifest that entry and artifact name.
`prepare` makes everything up to the ledger entry; the caller appends that entry (together with
what belongs to it); `issue` proves it and announces it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import trio

from konsil.node.learning.knowledge import knowledge_of, measured, written
from konsil.node.learning.shelf import Held, Shelf
from konsil.protocol import chunks, envelope
from konsil.protocol.artifact import (
    Artifact,
    ClassCoverage,
    Coverage,
    Payload,
    PrivacySpent,
    bucket,
    seal,
)
from konsil.protocol.digest import sha256
from konsil.protocol.errors import StorageError
from konsil.protocol.learning_bodies import ArtifactPublish
from konsil.protocol.messages import Head

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.node.learning.memory import Memory
    from konsil.node.learning.travelling import Travelled, Travelling
    from konsil.node.learning.worker_messages import Figures, Opened
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.store.blobs import BlobStore
    from konsil.node.store.chronicle import Chronicle
    from konsil.protocol.limits import Limits

NONE_SPENT = PrivacySpent(mechanism="none", unit="none", epsilon_micro=0, delta_e12=0)


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed artifact whose publish entry is not in the ledger yet."""

    body: ArtifactPublish
    artifact: Artifact
    envelope: bytes
    knowledge: bytes
    path: Path
    digests: tuple[bytes, ...]


class Press:
    """Turns a payload into an artifact on the shelf."""

    def __init__(
        self,
        roster: Roster,
        blobs: BlobStore,
        chronicle: Chronicle,
        shelf: Shelf,
        travelling: Travelling,
        limits: Limits,
        tell: Callable[[], None],
        log: Log,
        *,
        opinions: bool = False,
    ) -> None:
        """With `opinions` each artifact says how far its publisher trusts its own peers."""
        self.tell = tell
        self._opinions = opinions
        self._roster = roster
        self._blobs = blobs
        self._chronicle = chronicle
        self._shelf = shelf
        self._travelling = travelling
        self._limits = limits
        self._log = log

    async def prepare(
        self,
        payload: bytes,
        opened: Opened,
        memory: Memory,
        *,
        parents: tuple[bytes, ...],
        figures: Figures | None = None,
        number: int | None = None,
    ) -> Prepared:
        """Seal `payload` (a digest in the blob store) as our next artifact."""
        travels = await self._travelling.prepare(payload, memory.kind, memory.sequence)
        if travels.art != payload and opened.whole:
            parents = (payload,)
        path = self._blobs.path(travels.art)
        size, digests = await trio.to_thread.run_sync(chunk_file, path, self._limits.chunk_bytes)
        parents = tuple(parent for parent in parents if parent != travels.art)
        root = chunks.chunk_root(digests)
        known = self._known(opened, memory, figures)
        knowledge = None if known is None else await self._chronicle.put(known)
        artifact = Artifact(
            kind=memory.kind,
            publisher=self._roster.me.node,
            sequence=memory.sequence + 1,
            round=memory.round if number is None else number,
            task=opened.task,
            base=opened.about.hex(),
            architecture=opened.form.hex(),
            parents=tuple(parent.hex() for parent in parents),
            payload=_payload(travels, size, self._limits.chunk_bytes, root),
            coverage=_coverage(opened),
            privacy=NONE_SPENT,
            charter=self._roster.charter.hex(),
            knowledge=None if knowledge is None else knowledge.hex(),
        )
        sealed = envelope.pack(seal(artifact, self._chronicle.key("art")))
        body = ArtifactPublish(
            art=travels.art,
            chunk_root=root,
            kind=memory.kind,
            size=size,
            env=await self._chronicle.put(sealed),
            derived_from=list(parents),
            knowledge=knowledge,
            policy=None,
            sequence=artifact.sequence,
        )
        return Prepared(
            body=body,
            artifact=artifact,
            envelope=sealed,
            knowledge=known or b"",
            path=path,
            digests=tuple(digests),
        )

    def _known(self, opened: Opened, memory: Memory, figures: Figures | None) -> bytes | None:
        """The knowledge manifest; opinions are the first to go where there is too much to say."""
        told, most = measured(figures), self._limits.knowledge_bytes
        known = written(knowledge_of(opened, NONE_SPENT, told), most)
        said = memory.direct() if self._opinions else {}
        if not said:
            return known
        return written(knowledge_of(opened, NONE_SPENT, told, opinions=said), most) or known

    async def issue(self, prepared: Prepared, index: int, memory: Memory) -> Held:
        """Prove the entry at `index`, put the artifact on the shelf and announce it."""
        # First of all: the number is used up, whatever becomes of the rest.
        memory.published(prepared.artifact.sequence, prepared.body.art)
        held = Held(
            head=head_of(prepared.artifact, prepared.envelope),
            artifact=prepared.artifact,
            envelope=prepared.envelope,
            proof=await self._chronicle.prove(index),
            path=prepared.path,
            knowledge=prepared.knowledge,
            since_round=prepared.artifact.round,
            digests=prepared.digests,
        )
        self._shelf.add(held)
        self._log.info("artifact.published", sequence=held.head.sequence, size=held.head.size)
        self.tell()
        return held


def head_of(artifact: Artifact, sealed: bytes) -> Head:
    """The head that announces a sealed artifact."""
    return Head(
        publisher=artifact.publisher,
        kind=artifact.kind,
        sequence=artifact.sequence,
        env=sha256(sealed),
        art=bytes.fromhex(artifact.payload.digest),
        size=artifact.payload.size,
        round=artifact.round,
    )


def chunk_file(path: Path, chunk_bytes: int) -> tuple[int, list[bytes]]:
    """The size of a file and the digests of its chunks. Raises `StorageError`."""
    try:
        with path.open("rb") as file:
            digests = chunks.chunk_digests(iter(lambda: file.read(chunk_bytes), b""))
            return file.tell(), digests
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error


def _payload(travels: Travelled, size: int, chunk_bytes: int, root: bytes) -> Payload:
    return Payload(
        digest=travels.art.hex(),
        size=size,
        format=travels.format,
        chunk_bytes=chunk_bytes,
        chunk_root=root.hex(),
        decoded=travels.decoded,
        reference=travels.reference,
    )


def _coverage(opened: Opened) -> Coverage:
    return Coverage(
        rows=bucket(opened.rows),
        classes=tuple(
            ClassCoverage(name=name, rows=bucket(count))
            for name, count in zip(opened.classes, opened.class_rows, strict=True)
            if count > 0
        ),
        not_evaluated=tuple(
            name
            for name, count in zip(opened.classes, opened.class_rows, strict=True)
            if count == 0
        ),
        tensors=(),
    )
