"""The inbox: what a received artifact must prove before it may wait to be mixed.

Two looks. At the offer: the publisher's signature, its own log's proof of publication, and
everything that the manifest claims. After the transfer: a worker that opens the payload. The
first lie ends it; the refusal names stage, reasons and who answers for it. A holder that
hands on what is badly signed answers for that itself; the publisher answers for what it
signed. Pure but for the facts it is given; it opens no tensor and writes nothing.

The publisher's keys are those in force at the place of its publish entry, as our mirror of its
log shows them. A signature that we cannot read is no lie while that mirror ends before it
(`Behind`). What a key signed that was revoked since is turned down, and nobody answers for it:
it may have been handed on in good faith.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, envelope, knowledge_manifest, proof
from konsil.protocol import note as notes
from konsil.protocol.artifact import Artifact, open_sealed
from konsil.protocol.digest import sha256
from konsil.protocol.errors import RemoteError, SignatureRefused, UnreachableError
from konsil.protocol.keyring import Keyring
from konsil.protocol.proof import Published
from konsil.trust import gate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from konsil.node.learning.shelf import Shelf
    from konsil.node.learning.worker_messages import Opened
    from konsil.node.roster import Roster
    from konsil.protocol.fields import Code
    from konsil.protocol.learning_bodies import ArtifactPublish
    from konsil.protocol.limits import Limits
    from konsil.protocol.messages import Head


class Refusal(Exception):
    """An artifact that is not taken: at which stage, why, and whose fault it is."""

    def __init__(
        self, stage: Code, reasons: tuple[Code, ...], culprit: str, envelope: bytes = b""
    ) -> None:
        """`envelope` is what the culprit signed, where that is a proof against it."""
        super().__init__(f"{stage}: {', '.join(reasons)}")
        self.stage = stage
        self.reasons = reasons
        self.culprit = culprit
        self.envelope = envelope


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact whose offer holds; its payload is still to come."""

    artifact: Artifact
    envelope: bytes
    proof: bytes
    published: Published
    knowledge: bytes = b""
    """The knowledge manifest that the artifact names; empty when it names none."""


class Behind(Exception):
    """A signature that nobody can judge before more of the publisher's log is mirrored."""


async def judge(look: Callable[[], Admitted], catch_up: Callable[[], Awaitable[None]]) -> Admitted:
    """What `look` admits, once `catch_up` mirrored the publisher's log if that is needed.

    Raises `Refusal`, `UnreachableError` while the publisher does not show its log so far, what
    `catch_up` raises, and a `RemoteError` for what nobody answers for.
    """
    try:
        return look()
    except Behind as behind:
        try:
            await catch_up()
        except RemoteError as error:
            raise UnreachableError(f"{behind}: {error.message}") from error
    try:
        return look()
    except Behind as behind:
        raise UnreachableError(f"{behind}: its log is not shown so far") from behind


def admit(
    head: Head,
    sealed: bytes,
    proven: bytes,
    *,
    holder: str,
    roster: Roster,
    mirrored: int,
    shelf: Shelf,
    opened: Opened,
    limits: Limits,
) -> Admitted:
    """The artifact in an offer for `head` that `holder` (a node id) made.

    `mirrored` is how many entries of the publisher's log we hold. Raises `Refusal`, `Behind`,
    and `SignatureRefused` for what a key signed that was revoked since.
    """
    ring = roster.keyring(head.publisher)
    if ring is None or sha256(sealed) != head.env:
        raise Refusal("offer", ("signature",), holder)
    try:
        published = _published(proven, ring, limits)
    except _Unreadable as unreadable:
        _turn_down(unreadable, mirrored)
        # The proof is no part of what the publisher signed here, so whoever brought it answers.
        raise Refusal("offer", ("unlogged",), holder) from unreadable
    except RemoteError as error:
        raise Refusal("offer", ("unlogged",), holder) from error
    try:
        artifact = _artifact(sealed, ring, published.entry.n, limits)
    except _Unreadable as unreadable:
        _turn_down(unreadable, mirrored)
        raise Refusal("offer", (SignatureRefused.code,), holder) from unreadable
    except RemoteError as error:
        raise Refusal("offer", (error.code,), holder) from error
    if published.body.env != head.env:
        # The proof of another publication: it is no part of what the publisher signed here.
        raise Refusal("offer", ("unlogged",), holder)
    if artifact.publisher != head.publisher:
        raise Refusal("offer", ("publisher",), holder)
    if artifact.kind != head.kind:
        raise Refusal("offer", ("kind",), holder)
    # 0: a link of a chain, which nobody announced and only its own publisher names.
    if head.sequence and artifact.sequence != head.sequence:
        # An old artifact under a new number: a replay, by who offers it and not by its author.
        raise Refusal("offer", ("sequence",), holder)
    reasons = gate.refusals(_facts(head, artifact, published.body, roster, shelf, opened, limits))
    if reasons:
        proof_of_it = sealed if gate.quarantines(reasons) else b""
        raise Refusal("manifest", reasons, head.publisher, proof_of_it)
    return Admitted(artifact=artifact, envelope=sealed, proof=proven, published=published)


def with_knowledge(admitted: Admitted, knowledge: bytes, holder: str, limits: Limits) -> Admitted:
    """The same with the knowledge manifest that came beside it.

    Raises `Refusal`: `holder` answers for bytes that the artifact does not name, its publisher for
    a manifest that breaks the rules.
    """
    artifact = admitted.artifact
    named = b"" if artifact.knowledge is None else bytes.fromhex(artifact.knowledge)
    if (sha256(knowledge) if knowledge else b"") != named:
        raise Refusal("offer", ("knowledge",), holder)
    if knowledge:
        try:
            knowledge_manifest.read(knowledge, limits=limits)
        except RemoteError as error:
            raise Refusal("manifest", ("knowledge",), artifact.publisher) from error
    return msgspec.structs.replace(admitted, knowledge=knowledge)


class _Unreadable(Exception):
    """Signed for a position of the publisher's log by no key that we know to sign there."""

    def __init__(self, position: int, void: SignatureRefused | None) -> None:
        super().__init__(f"a signature for entry {position} of the publisher's log")
        self.position = position
        self.void = void
        """Why it is void, if it is one of a key that was revoked."""


def _turn_down(unreadable: _Unreadable, mirrored: int) -> None:
    """Raise unless a signature that does not count is somebody's fault."""
    if unreadable.position > mirrored:
        raise Behind(str(unreadable))
    if unreadable.void is not None:
        raise unreadable.void


def _published(proven: bytes, ring: Keyring, limits: Limits) -> Published:
    """The publish entry in a proof. Raises `_Unreadable`, or a `RemoteError`."""
    note = proof.decode(proven, limits=limits).checkpoint
    try:
        return proof.open_published_with(proven, partial(ring.open_checkpoint, limits=limits))
    except SignatureRefused as error:
        void = _void(error, lambda: _forgiving(ring).open_checkpoint(note))
        size = checkpoint.from_text(notes.parse(note, limits=limits)[0]).size
        raise _Unreadable(size, void) from error


def _artifact(sealed: bytes, ring: Keyring, index: int, limits: Limits) -> Artifact:
    """The artifact published at `index`. Raises `_Unreadable`, or a `RemoteError`."""
    packed = envelope.unpack(sealed, limits=limits)
    try:
        return open_sealed(packed, ring.at("art", index))
    except SignatureRefused as error:
        old = _forgiving(ring).at("art", index)
        raise _Unreadable(index, _void(error, lambda: open_sealed(packed, old))) from error


def _void(error: SignatureRefused, again: Callable[[], object]) -> SignatureRefused | None:
    """The error, if nothing but a revocation is its reason: `again` does not know of any."""
    try:
        again()
    except RemoteError:
        return None
    return error


def _forgiving(ring: Keyring) -> Keyring:
    """The keys as if none had been revoked, only replaced."""
    periods = (msgspec.structs.replace(period, void_from=None) for period in ring.periods)
    return Keyring(author=ring.author, periods=tuple(periods))


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
    number = (artifact.publisher, artifact.kind, artifact.sequence)
    last = 0 if newest is None else newest.head.sequence
    twice = artifact.sequence <= last and any(
        one.head.env != head.env for one in shelf if _number(one.head) == number
    )
    return gate.Facts(
        logged=_same(artifact, logged, head.env),
        about_ours=artifact.base == opened.about.hex(),
        task_ours=artifact.architecture == opened.form.hex() and artifact.task == opened.task,
        parents_agree=[bytes.fromhex(parent) for parent in artifact.parents]
        == list(logged.derived_from),
        charter_ours=artifact.charter == roster.charter.hex(),
        sequence=artifact.sequence,
        last_sequence=last,
        size=artifact.payload.size,
        largest=limits.payload_bytes,
        equivocates=twice,
    )


def _number(head: Head) -> tuple[str, str, int]:
    """What a publisher may give to one artifact alone."""
    return head.publisher, head.kind, head.sequence


def _same(artifact: Artifact, logged: ArtifactPublish, env: bytes) -> bool:
    """Does the publisher's own log say what its manifest says?"""
    return (
        logged.env == env
        and logged.art.hex() == artifact.payload.digest
        and logged.chunk_root.hex() == artifact.payload.chunk_root
        and logged.size == artifact.payload.size
        and logged.kind == artifact.kind
        and logged.sequence == artifact.sequence
        and (logged.knowledge and logged.knowledge.hex()) == artifact.knowledge
    )
