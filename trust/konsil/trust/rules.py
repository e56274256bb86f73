"""What the entries of one log must mean together: order, envelopes, proofs, lineage, trust.

`History` takes the entries in order and holds each against the blobs it names and against
what the log said before. Trust is for `konsil.trust.judgement`, what people decide for
`konsil.trust.office`. It knows nothing of files beyond where a finding points, and nothing of
other homes: what needs them is kept in its fields for `konsil.trust.others`.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import artifact, envelope, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.entries import Entry, fault_of
from konsil.protocol.errors import KeyRevoked, ManifestRefused, RemoteError
from konsil.protocol.keyring import Keyring
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ArtifactReject,
    ModelBase,
    ModelTrain,
    TrustUpdate,
    UnlearnDone,
)
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate, LogRedact
from konsil.trust.ageing import day_of
from konsil.trust.equivocation import Claim as Claim
from konsil.trust.equivocation import second_face
from konsil.trust.gate import quarantines
from konsil.trust.judgement import Judgements
from konsil.trust.manifests import differences
from konsil.trust.margin import Margin
from konsil.trust.office import Office
from konsil.trust.opinions import spoken
from konsil.trust.sealed import open_together
from konsil.trust.structure import Place
from konsil.trust.taken import Taken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.genesis import Author
    from konsil.protocol.identity import VerifyKey
    from konsil.protocol.limits import Limits
    from konsil.trust.fence import Fence
    from konsil.trust.report import Findings
    from konsil.trust.sources import Blobs
    from konsil.trust.structure import Structure

_LEARNING = frozenset(
    {
        ModelBase, ModelTrain, ArtifactPublish, ArtifactReceive, ArtifactReject,
        ArtifactIntegrate, TrustUpdate, KeyRotate, KeyRevoke,
    }
)  # fmt: skip
"""What is judged here; all other entries are the office's."""
_UNCHANGED: Mapping[str, Keyring] = MappingProxyType({})


class Published(msgspec.Struct, frozen=True, gc=False):
    """An artifact.publish entry of this log."""

    place: Place
    time_ms: int
    body: ArtifactPublish


class Received(msgspec.Struct, frozen=True, gc=False):
    """An artifact.receive entry of this log; `head` is None when its proof was not checked."""

    place: Place
    time_ms: int
    body: ArtifactReceive
    head: Checkpoint | None
    proof: Path | None


class Made(msgspec.Struct, frozen=True, gc=False):
    """Where the log first says that a model was made, and from what."""

    place: Place
    sources: tuple[bytes, ...]
    trained: bool = False


class History:
    """The rules over one log; feed it every entry with `take`."""

    def __init__(
        self,
        node: str,
        authors: Mapping[str, Author],
        blobs: Blobs,
        findings: Findings,
        limits: Limits,
        *,
        keyrings: Mapping[str, Keyring] = _UNCHANGED,
        home: Path | None = None,
    ) -> None:
        """`authors` are the known members by node id; `node` is the one whose log this is.

        `keyrings` are those of members whose keys changed, as far as their homes show it, and
        `home` is where what no ledger holds may lie.
        """
        self.node = node
        self.published: dict[int, Published] = {}
        self.received: list[Received] = []
        self.integrated: list[tuple[Place, ArtifactIntegrate]] = []
        self.tensors: dict[bytes, bytes] = {}
        """Of each received payload whose manifest is read: the digest of its tensors."""
        self.claims: list[Claim] = []
        self.unchecked = 0
        self.begun_ms = self.last_ms = 0
        """The times of the first entry and of the newest one."""
        self._authors = authors
        self._keyrings = keyrings
        self._keys = Keyring.of(authors[node]) if node in authors else None
        self._signer: VerifyKey | None = None
        """Who signs this log's artifacts now, once that was asked."""
        self._opened: Mapping[bytes, Artifact] = {}
        """What that key surely signed, of what the next entries publish."""
        self._margin = Margin(blobs, findings, limits)
        self._limits = limits
        self._judgements = Judgements(findings, self._said)
        self.office = Office(node, self._ring, self._margin, self._knows, home)
        self.made: dict[bytes, Made] = {}
        self.base: bytes | None = None  # the model that this log began with
        self._held = Taken()
        self._taken: set[bytes] = set()
        self._sequences: dict[str, int] = {}
        self._unlearned: list[int] = []
        """Unlearnings whose bodies were redacted, and whose models nothing has named yet."""

    def ahead(self, coming: Sequence[Entry]) -> None:
        """Before neighbouring entries are taken: opens what they publish, all of it together."""
        self._opened = {}
        if self._signer is not None:
            envs = [one.b.env for one in coming if isinstance(one.b, ArtifactPublish)]
            self._opened = open_together(self._margin.near(envs), self._signer, self._limits)

    def take(self, place: Place, entry: Entry) -> None:
        """Holds the next entry against the rules."""
        self._timed(place, entry.ts)
        self.begun_ms = self.begun_ms or entry.ts
        self.office.charters.carried(place, entry)
        body = entry.b
        if type(body) not in _LEARNING:
            self._decided(place, entry)
        elif isinstance(body, ModelBase):
            self.base = self.base or body.model
            self._make(place, body.model, ())
            self._judgements.chain.had(body.model, self.node)
        elif isinstance(body, ModelTrain):
            self._known(place, body.base, "the model that training began with")
            self._make(place, body.out, (body.base,), trained=True)
            self._judgements.trained(place.index, body, day_of(self.begun_ms, entry.ts))
            self.office.spending.trained(place, body)
        elif isinstance(body, ArtifactPublish):
            self._publish(place, entry, body)
        elif isinstance(body, ArtifactReceive):
            self._receive(place, entry, body)
        elif isinstance(body, ArtifactReject):
            self._refused(place, body)
        elif isinstance(body, ArtifactIntegrate):
            self._integrate(place, body)
            self.office.charters.acted(place, entry)
        elif isinstance(body, TrustUpdate):
            data = self._margin.blob(place, body.evidence, "the evidence of a trust update")
            if body.art and (wrong := self._held.judged((body.art, body.node), body.kind)):
                self._margin.add("trust.evidence", place, wrong)
            self._judgements.take(place, body, data)
        elif isinstance(body, KeyRotate | KeyRevoke):
            self._change(place, body)

    def _decided(self, place: Place, entry: Entry) -> None:
        body = entry.b
        if isinstance(body, UnlearnDone):
            self._known(place, body.old, "what was unlearned from")
            # Made from nothing: whoever looks for descendants must not go on through it.
            self.made.setdefault(body.new, Made(place, ()))
        self.office.take(place, entry)

    def _timed(self, place: Place, time_ms: int) -> None:
        if time_ms >= self.last_ms:
            self.last_ms = time_ms
            return
        message = f"its time is {self.last_ms - time_ms} ms before that of an earlier entry"
        self._margin.add("entry.time", place, message)

    def hidden(self, place: Place, body: LogRedact) -> None:
        """The next entry was redacted; `body` proves of which type and time it was."""
        self._timed(place, body.written_ms)
        if body.kind == "trust.update":
            self._judgements.hidden()
        elif body.kind == "unlearn.done":
            self._unlearned.append(place.index)
        self.office.hidden(place, body)

    def missed(self) -> None:
        """The next entry cannot be read."""
        self._judgements.missed()

    def finish(self, structure: Structure, seen: Fence | None = None) -> None:
        """The log has ended, with this structure; `seen` tells when others had cosigned it."""
        self._judgements.finish()
        self.office.finish(structure, seen)

    def _knows(self, place: Place, model: bytes) -> bool:
        return model in self._taken or self._is_made(place, model)

    def may_be_unlearned(self, place: Place) -> bool:
        """Whether a release there, which the log did not make, may be an unlearned model."""
        return any(at < place.index for at in self._unlearned)

    def _is_made(self, place: Place, model: bytes) -> bool:
        """Whether the log made this model, if only by an unlearning whose body was redacted.

        Each of those made one model, from nothing.
        """
        if model not in self.made and self._unlearned:
            del self._unlearned[0]
            self.made[model] = Made(place, ())
        return model in self.made

    def _change(self, place: Place, body: KeyRotate | KeyRevoke) -> None:
        """A key changes; `konsil.trust.structure` says when it may not."""
        if self._keys is None:
            return
        with suppress(RemoteError):
            before, self._keys = self._keys, self._keys.after(place.index, body)
            self._signer, self._opened = None, {}
            if isinstance(body, KeyRevoke) and body.role == "art":
                since = max(one.since for one in before.periods if one.role == "art")
                for at in self.published:
                    if at >= max(since, body.last_good_size):
                        message = f"its key was revoked, from entry {body.last_good_size} on"
                        self._margin.add("publish.revoked", self.published[at].place, message)

    def _ring(self, node: str) -> Keyring | None:
        """The keys of a member, as far as they are known here."""
        if node == self.node:
            return self._keys
        author = self._authors.get(node)
        return self._keyrings.get(node) or (None if author is None else Keyring.of(author))

    def _publish(self, place: Place, entry: Entry, body: ArtifactPublish) -> None:
        self.published[place.index] = Published(place, entry.ts, body)
        self._judgements.chain.had(body.art, self.node)
        if body.art not in self.made:
            for digest in body.derived_from or [body.art]:
                self._known(place, digest, "what a published artifact was made from")
        manifest = self._manifest(place, body.env, self.node, place.index)
        if manifest is not None:
            wrong = differences(manifest, body, entry.c)
            if wrong:
                self._margin.add("publish.envelope", place, f"the manifest differs in {wrong}")
        self.office.published(place, entry, body, manifest)
        before = self._sequences.get(body.kind, 0)
        if body.sequence <= before:
            message = f"number {body.sequence} of {body.kind} after {before}"
            self._margin.add("publish.sequence", place, message)
        self._sequences[body.kind] = max(before, body.sequence)

    def _receive(self, place: Place, entry: Entry, body: ArtifactReceive) -> None:
        self._taken.add(body.art)
        self._judgements.chain.had(body.art, body.publisher)
        self._judgements.chain.hearing.heard(place.index, body.publisher, body.env)
        keys = self._ring(body.publisher)
        manifest = self._manifest(place, body.env, body.publisher, body.index)
        self._held.note((body.art, body.publisher), manifest)
        if manifest is not None:
            if manifest.payload.digest != body.art.hex():
                self._margin.add("receive.envelope", place, "the manifest names another payload")
            self.tensors[body.art] = bytes.fromhex(manifest.payload.tensors)
        data = self._margin.blob(place, body.proof, "the proof of a received artifact")
        head = None
        if keys is None:
            self.unchecked += 1
        elif data is not None:
            head = self._proven(place, body, data, keys)
        path = self._margin.path(body.proof)
        self.received.append(Received(place, entry.ts, body, head, path))

    def _proven(
        self, place: Place, body: ArtifactReceive, data: bytes, keys: Keyring
    ) -> Checkpoint | None:
        """The publisher's checkpoint, when the proof shows what the entry says."""
        try:
            author = _signing(keys, proof.decode(data, limits=self._limits).checkpoint)
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
            code = "receive.revoked" if isinstance(error, KeyRevoked) else "receive.proof"
            self._margin.add(code, place, error.message, self._margin.path(body.proof))
            return None
        return shown.checkpoint

    def _said(self, env: bytes) -> Mapping[tuple[str, str], int] | None:
        """What an envelope says of peers; None where it is not here."""
        return spoken(env, self._margin.quietly, self._limits)

    def _refused(self, place: Place, body: ArtifactReject) -> None:
        if body.evidence is not None:
            self._margin.blob(place, body.evidence, "the evidence of a refusal")
        self._judgements.chain.refused(body)
        if body.env is not None and quarantines(tuple(body.reasons)):
            keys = self._ring(body.publisher)
            self.unchecked += keys is None
            self.claims += second_face(self._margin, place, body, keys, self.claims)

    def _integrate(self, place: Place, body: ArtifactIntegrate) -> None:
        self.integrated.append((place, body))
        fault = fault_of(body)
        if fault:
            self._margin.add("integrate.sum", place, fault)
        for digest in (body.before, body.after):
            self._margin.blob(place, digest, "the evaluation of a mix")
        self._known(place, body.base, "the model that others were mixed into")
        for part in body.parts:
            if part.node == self.node:
                self._known(place, part.art, "an own part of a mix")
            elif (part.art, part.node) not in self._held:
                message = f"{part.art.hex()[:16]}… of {part.node} was never received"
                self._margin.add("integrate.unlogged", place, message)
            elif wrong := self._held.mixed((part.art, part.node), body.rule, self.base):
                self._margin.add("integrate.rule", place, wrong)
        self._judgements.mixed(place, body, self.node)
        self._make(place, body.out, tuple(part.art for part in body.parts))

    def _manifest(self, place: Place, env: bytes, publisher: str, index: int) -> Artifact | None:
        """The manifest in an envelope that was published at `index` of the publisher's log, its
        signature checked when the publisher is known."""
        data = self._margin.blob(place, env, "a signed envelope")
        now = publisher == self.node and index == place.index
        keys = self._ring(publisher)
        if data is None or keys is None:
            return None
        try:
            manifest = self._opened.get(env) if now else None
            if manifest is None:
                sealed = envelope.unpack(data, limits=self._limits)
                key = self._signer if now else None
                if key is None:
                    key = keys.at("art", index)
                    self._signer = key if now else self._signer
                manifest = artifact.open_sealed(sealed, key, limits=self._limits)
            if manifest.publisher != publisher:
                raise ManifestRefused(f"the manifest names {manifest.publisher} as publisher")
        except RemoteError as error:
            kind = "publish" if publisher == self.node else "receive"
            fault = "revoked" if isinstance(error, KeyRevoked) else "envelope"
            self._margin.add(f"{kind}.{fault}", place, error.message, self._margin.path(env))
            return None
        store = self._margin.store_of(env) or ""
        self.claims.append(Claim(publisher, manifest.kind, manifest.sequence, env, store))
        return manifest

    def _known(self, place: Place, digest: bytes, what: str) -> None:
        if not self._is_made(place, digest):
            message = f"{what} ({digest.hex()[:16]}…) has no entry before"
            self._margin.add("lineage.gap", place, message)

    def _make(
        self, place: Place, out: bytes, sources: tuple[bytes, ...], *, trained: bool = False
    ) -> None:
        known = self.made.setdefault(out, Made(place, sources, trained))
        if known.sources != sources and out not in sources:
            message = f"{out.hex()[:16]}… was made before, in entry {known.place.index}"
            self._margin.add("lineage.reused", place, f"{message}, from something else")


def _signing(keys: Keyring, note: bytes) -> Author:
    """The author with the log key that must have signed a checkpoint: only a key that changed
    makes it worth while to look. Raises `RemoteError` when no key of its time did."""
    author = keys.author
    if sum(period.role == "log" for period in keys.periods) == 1:
        return author
    head = keys.open_checkpoint(note)
    log = [one.key for one in keys.periods if one.role == "log" and one.since <= head.size][-1]
    return msgspec.structs.replace(author, keys={**author.keys, "log": log})
