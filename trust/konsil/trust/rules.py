"""What the entries of one log must mean together: order, envelopes, proofs, lineage, trust.

`History` takes the entries in order and holds each against the blobs it names and against
what the log said before. It knows nothing of files beyond where a finding points, and
nothing of other homes: what needs them is kept in its fields for `konsil.trust.others`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import artifact, envelope, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.entries import Entry, fault_of
from konsil.protocol.errors import LimitExceeded, ManifestRefused, RemoteError
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
    ModelBase,
    ModelTrain,
    TrustUpdate,
)
from konsil.trust.judgement import Judgements
from konsil.trust.structure import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.genesis import Author
    from konsil.protocol.limits import Limits
    from konsil.trust.report import Findings
    from konsil.trust.sources import Blobs


class Published(msgspec.Struct, frozen=True):
    """An artifact.publish entry of this log."""

    place: Place
    time_ms: int
    body: ArtifactPublish


class Received(msgspec.Struct, frozen=True):
    """An artifact.receive entry of this log; `head` is None when its proof was not checked."""

    place: Place
    time_ms: int
    body: ArtifactReceive
    head: Checkpoint | None
    proof: Path | None


class Claim(msgspec.Struct, frozen=True):
    """A signed statement that `publisher` gave out `env` as number `sequence` of a kind."""

    publisher: str
    kind: str
    sequence: int
    env: bytes
    file: Path


class Made(msgspec.Struct, frozen=True):
    """Where the log first says that a model was made, and from what."""

    place: Place
    sources: tuple[bytes, ...]


class History:
    """The rules over one log; feed it every entry with `take`."""

    def __init__(
        self,
        node: str,
        authors: Mapping[str, Author],
        blobs: Blobs,
        findings: Findings,
        limits: Limits,
    ) -> None:
        """`authors` are the known members by node id; `node` is the one whose log this is."""
        self.node = node
        self.published: dict[int, Published] = {}
        self.received: list[Received] = []
        self.integrated: list[tuple[Place, ArtifactIntegrate]] = []
        self.claims: list[Claim] = []
        self.unchecked = 0
        self._authors = authors
        self._blobs = blobs
        self._findings = findings
        self._limits = limits
        self._judgements = Judgements(findings)
        self.made: dict[bytes, Made] = {}
        self._held: set[tuple[bytes, str]] = set()
        self._sequences: dict[str, int] = {}
        self._last_ms = 0

    def take(self, place: Place, entry: Entry) -> None:
        """Holds the next entry against the rules."""
        if entry.ts < self._last_ms:
            message = f"its time is {self._last_ms - entry.ts} ms before that of an earlier entry"
            self._add("entry.time", place, message)
        self._last_ms = max(self._last_ms, entry.ts)
        body = entry.b
        if isinstance(body, ModelBase):
            self._make(place, body.model, ())
            self._judgements.chain.had(body.model, self.node)
        elif isinstance(body, ModelTrain):
            self._known(place, body.base, "the model that training began with")
            self._make(place, body.out, (body.base,))
            self._judgements.trained(body)
        elif isinstance(body, ArtifactPublish):
            self._publish(place, entry, body)
        elif isinstance(body, ArtifactReceive):
            self._receive(place, entry, body)
        elif isinstance(body, ArtifactReject):
            if body.evidence is not None:
                self._blob(place, body.evidence, "the evidence of a refusal")
            self._judgements.chain.refused(body)
        elif isinstance(body, ArtifactIntegrate):
            self._integrate(place, body)
        elif isinstance(body, TrustUpdate):
            data = self._blob(place, body.evidence, "the evidence of a trust update")
            self._judgements.take(place, body, data)

    def finish(self) -> None:
        """The log has ended."""
        self._judgements.finish()

    def _publish(self, place: Place, entry: Entry, body: ArtifactPublish) -> None:
        self.published[place.index] = Published(place, entry.ts, body)
        self._judgements.chain.had(body.art, self.node)
        if body.art not in self.made:
            for digest in body.derived_from or [body.art]:
                self._known(place, digest, "what a published artifact was made from")
        manifest = self._manifest(place, body.env, self.node, "publish.envelope")
        if manifest is not None:
            wrong = _differences(manifest, body, entry.c)
            if wrong:
                self._add("publish.envelope", place, f"the manifest differs in {wrong}")
        before = self._sequences.get(body.kind, 0)
        if body.sequence <= before:
            self._add(
                "publish.sequence", place, f"number {body.sequence} of {body.kind} after {before}"
            )
        self._sequences[body.kind] = max(before, body.sequence)

    def _receive(self, place: Place, entry: Entry, body: ArtifactReceive) -> None:
        self._held.add((body.art, body.publisher))
        self._judgements.chain.had(body.art, body.publisher)
        author = self._authors.get(body.publisher)
        manifest = self._manifest(place, body.env, body.publisher, "receive.envelope")
        if manifest is not None and manifest.payload.digest != body.art.hex():
            self._add("receive.envelope", place, "the manifest names another payload")
        data = self._blob(place, body.proof, "the proof of a received artifact")
        head = None
        if author is None:
            self.unchecked += 1
        elif data is not None:
            head = self._proven(place, body, data, author)
        path = self._blobs.path(body.proof)
        self.received.append(Received(place, entry.ts, body, head, path))

    def _proven(
        self, place: Place, body: ArtifactReceive, data: bytes, author: Author
    ) -> Checkpoint | None:
        """The publisher's checkpoint, when the proof shows what the entry says."""
        try:
            shown = proof.open_published(data, author, limits=self._limits)
            stated = (body.art, body.env, body.index, body.size, body.root)
            found = (
                shown.body.art,
                shown.body.env,
                shown.entry.n,
                shown.checkpoint.size,
                shown.checkpoint.root,
            )
            if stated != found:
                raise ManifestRefused("the proof shows another entry or checkpoint")
        except RemoteError as error:
            self._add("receive.proof", place, error.message, self._blobs.path(body.proof))
            return None
        return shown.checkpoint

    def _integrate(self, place: Place, body: ArtifactIntegrate) -> None:
        self.integrated.append((place, body))
        fault = fault_of(body)
        if fault:
            self._add("integrate.sum", place, fault)
        self._known(place, body.base, "the model that others were mixed into")
        for part in body.parts:
            if part.node == self.node:
                self._known(place, part.art, "an own part of a mix")
            elif (part.art, part.node) not in self._held:
                message = f"{part.art.hex()[:16]}… of {part.node} was never received"
                self._add("integrate.unlogged", place, message)
        self._judgements.mixed(place, body, self.node)
        self._make(place, body.out, tuple(part.art for part in body.parts))

    def _manifest(self, place: Place, env: bytes, publisher: str, code: str) -> Artifact | None:
        """The manifest in an envelope, its signature checked when the publisher is known."""
        data = self._blob(place, env, "a signed envelope")
        author = self._authors.get(publisher)
        if data is None or author is None:
            return None
        path = self._blobs.path(env)
        try:
            sealed = envelope.unpack(data, limits=self._limits)
            manifest = artifact.open_sealed(sealed, author.keys["art"], limits=self._limits)
            if manifest.publisher != publisher:
                raise ManifestRefused(f"the manifest names {manifest.publisher} as publisher")
        except RemoteError as error:
            self._add(code, place, error.message, path)
            return None
        self.claims.append(
            Claim(publisher, manifest.kind, manifest.sequence, env, path or place.file)
        )
        return manifest

    def _blob(self, place: Place, digest: bytes, what: str) -> bytes | None:
        try:
            data = self._blobs.get(digest, self._limits.entry_bytes)
        except LimitExceeded as error:
            self._add("layout.oversize", place, error.message)
            return None
        if data is None:
            self._add("blob.missing", place, f"{what} ({digest.hex()}) is not here")
        return data

    def _known(self, place: Place, digest: bytes, what: str) -> None:
        if digest not in self.made:
            message = f"{what} ({digest.hex()[:16]}…) has no entry before"
            self._add("lineage.gap", place, message)

    def _make(self, place: Place, out: bytes, sources: tuple[bytes, ...]) -> None:
        known = self.made.setdefault(out, Made(place, sources))
        if known.sources != sources and out not in sources:
            message = f"{out.hex()[:16]}… was made before, in entry {known.place.index}"
            self._add("lineage.reused", place, f"{message}, from something else")

    def _add(self, code: str, place: Place, message: str, evidence: Path | None = None) -> None:
        self._findings.add(
            code, place.file, message, offset=place.offset, index=place.index, evidence=evidence
        )


def _differences(manifest: Artifact, body: ArtifactPublish, charter: bytes) -> str:
    """Which fields of a manifest contradict its publish entry."""
    pairs = {
        "payload": (manifest.payload.digest, body.art.hex()),
        "size": (manifest.payload.size, body.size),
        "chunk root": (manifest.payload.chunk_root, body.chunk_root.hex()),
        "kind": (manifest.kind, body.kind),
        "sequence": (manifest.sequence, body.sequence),
        "parents": (sorted(manifest.parents), sorted(d.hex() for d in body.derived_from)),
        "charter": (manifest.charter, charter.hex()),
        "knowledge": (manifest.knowledge, body.knowledge and body.knowledge.hex()),
    }
    return ", ".join(name for name, (said, logged) in pairs.items() if said != logged)
