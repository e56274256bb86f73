"""Artifacts: the signed manifest of what one node hands to others.

The manifest is an in-toto Statement v1 (in-toto/attestation, spec/v1/statement.md) with the
predicate type `konsil:artifact/v1`. Its bytes are canonical JSON (RFC 8785), and those
exact bytes are what the envelope signs. The subject names the payload by its SHA-256, so
that tools which know only in-toto can check it; the predicate must name the same one.

A manifest says what was trained on in buckets only. Absent means unknown, never zero.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta

from konsil.protocol import envelope as dsse
from konsil.protocol import in_toto, jcs
from konsil.protocol.encoding import PLAIN, Format, encoding_of
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import HexField, NodeField

if TYPE_CHECKING:
    from konsil.protocol.envelope import Envelope
    from konsil.protocol.identity import SigningKey, VerifyKey

PREDICATE_TYPE = "konsil:artifact/v1"

COHORT_BUCKETS = (
    0, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000,
    100_000, 200_000, 500_000, 1_000_000,
)  # fmt: skip
"""Lower edges of the buckets in which rows are counted."""
_BUCKETS = frozenset(COHORT_BUCKETS)

Kind = Literal["parameters", "data_vector", "logits", "prototypes", "weak_labels"]
"""What a payload can be, and what a node can be told to hand out and to take in."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Count = Annotated[int, Meta(ge=0, le=jcs.INT_MAX)]
Label = Annotated[str, Meta(min_length=1, max_length=256)]
Mechanism = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*\Z")]
Identifier = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[!-~]+\Z")]


def bucket(n: int) -> int:
    """The lower edge of the bucket that holds `n` rows.

    >>> bucket(9), bucket(10), bucket(1234)
    (0, 10, 1000)
    """
    if n < 0:
        raise LocalProtocolError(f"{n} rows cannot be counted in buckets")
    return COHORT_BUCKETS[bisect_right(COHORT_BUCKETS, n) - 1]


class Payload(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
):
    """The bytes that travel: their digest, their size, and the root over their chunks.

    Where these are not the tensors themselves, `decoded` is the digest of those as a plain
    payload. `reference` is that of the envelope of the publisher's artifact whose tensors they are
    a change of; without one they are a change of what every member begins with. Both are left out
    where they say nothing.
    """

    digest: HexField
    size: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    format: Format
    chunk_bytes: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    chunk_root: HexField
    decoded: HexField | None = None
    reference: HexField | None = None

    @property
    def tensors(self) -> str:
        """The digest of the tensors as a plain payload."""
        return self.decoded or self.digest


class ClassCoverage(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False
):
    """A class that was seen, and the lower edge of the bucket of its rows."""

    name: Label
    rows: Count


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What the artifact knows about: rows in buckets, classes, and what nobody looked at.

    `tensors` names the tensors that the artifact speaks for; empty means all of them.
    """

    rows: Count
    classes: tuple[ClassCoverage, ...]
    not_evaluated: tuple[Label, ...]
    tensors: tuple[Label, ...]


class PrivacySpent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What releasing the artifact cost: epsilon in 1e-6, delta in 1e-12, per `unit`.

    The mechanism `none` promises nothing, so it has the unit `none` and no figures.
    """

    mechanism: Mechanism
    unit: Literal["none", "record", "patient"]
    epsilon_micro: Count
    delta_e12: Annotated[int, Meta(ge=0, le=10**12)]


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """The manifest: who publishes what, made from what, with which payload.

    `sequence` counts the publisher's artifacts of this kind from 1; `base` is the digest of
    the model that training started from, `parents` those of every payload it was made of.
    """

    kind: Kind
    publisher: NodeField
    sequence: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    round: Count
    task: Identifier
    base: HexField
    architecture: HexField
    parents: tuple[HexField, ...]
    payload: Payload
    coverage: Coverage
    privacy: PrivacySpent
    charter: HexField
    knowledge: HexField | None


_Word = Annotated[str, Meta(max_length=128)]


# The quick way decodes into these: the same fields, but the texts that a pattern describes are
# any texts. It looks at them itself, for each pattern costs as much as all the rest of a field.
class _BareDigest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    sha256: str


class _BareSubject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    name: str
    digest: _BareDigest


class _BarePayload(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    gc=False,
    omit_defaults=True,
):
    digest: str
    size: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    format: Format
    chunk_bytes: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    chunk_root: str
    decoded: str | None = None
    reference: str | None = None


class _BarePrivacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    mechanism: _Word
    unit: Literal["none", "record", "patient"]
    epsilon_micro: Count
    delta_e12: Annotated[int, Meta(ge=0, le=10**12)]


class _Bare(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    kind: Kind
    publisher: _Word
    sequence: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    round: Count
    task: _Word
    base: str
    architecture: str
    parents: tuple[str, ...]
    payload: _BarePayload
    coverage: Coverage
    privacy: _BarePrivacy
    charter: str
    knowledge: str | None


_Full: TypeAlias = in_toto.Statement[in_toto.Subject, Artifact]
_Bared: TypeAlias = in_toto.Statement[_BareSubject, _Bare]
_DECODER = msgspec.json.Decoder(_Bared, strict=True)
_ENCODER = msgspec.json.Encoder(order="sorted")
_HEX, _HEX_DIGITS = b"0123456789abcdef", 64


def statement(artifact: Artifact) -> bytes:
    """The bytes to sign: the in-toto statement of `artifact` as canonical JSON.

    Raises `LocalProtocolError` when the manifest breaks a rule that a reader would refuse.
    """
    subject = in_toto.subject_of(artifact.payload.digest)
    document = in_toto.Statement(
        type=in_toto.STATEMENT_TYPE,
        subject=subject,
        predicate_type=PREDICATE_TYPE,
        predicate=artifact,
    )
    with suppress(EncodingRefused, LimitExceeded, ManifestRefused, TypeError, ValueError):
        data = _ENCODER.encode(document)
        if read_statement(data) == artifact:
            return data  # only canonical bytes are read
    data = jcs.canonical(msgspec.to_builtins(document))
    try:
        read_statement(data)
    except (EncodingRefused, LimitExceeded, ManifestRefused) as fault:
        raise LocalProtocolError(f"this manifest would be refused: {fault}") from None
    return data


def read_statement(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Artifact:
    """The manifest in the payload of a verified envelope.

    Raises `EncodingRefused` on bytes that are not canonical or fields of the wrong type or
    name, `LimitExceeded` beyond `limits`, and `ManifestRefused` when the manifest
    contradicts itself.
    """
    document = _quick(data, limits) or _careful(data, limits)
    in_toto.check(document, PREDICATE_TYPE, document.predicate.payload.digest)
    _check_bounds(document.predicate, limits)
    _check_sense(document.predicate)
    return document.predicate


def _careful(data: bytes, limits: Limits) -> _Full:
    """The statement in canonical JSON; names what is wrong with any other."""
    value = jcs.parse(data, limits=limits, max_bytes=limits.envelope_bytes)
    try:
        document = msgspec.convert(value, _Full, strict=True)
    except msgspec.ValidationError as fault:
        raise EncodingRefused(str(fault)) from None
    if jcs.canonical(msgspec.to_builtins(document)) != data:
        raise EncodingRefused("a manifest that writes what it does not say")
    return document


def _quick(data: bytes, limits: Limits) -> _Full | None:
    """The same some ten times faster, or None where only the careful way can tell.

    Plain ASCII without escapes has one order of names and no text to object to; every integer
    and text is bounded by its field; equal bytes prove the rest of the canonical form.
    """
    plain = data.isascii() and b"\\" not in data and b"\x7f" not in data
    if not plain or len(data) > limits.envelope_bytes or limits != DEFAULT_LIMITS:
        return None
    try:
        document = _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if _ENCODER.encode(document) != data or not _are_digests(document):
        return None
    bare = document.predicate
    if not _are_words(bare.publisher, bare.task, bare.privacy.mechanism):
        return None
    return in_toto.Statement(
        type=document.type,
        subject=tuple(
            in_toto.Subject(name=one.name, digest=in_toto.SubjectDigest(sha256=one.digest.sha256))
            for one in document.subject
        ),
        predicate_type=document.predicate_type,
        predicate=_whole(bare),
    )


def _are_digests(document: _Bared) -> bool:
    """Whether all digests are what `HexField` asks for: one look instead of many."""
    bare = document.predicate
    digests = [bare.base, bare.architecture, bare.charter, *bare.parents]
    digests += [bare.payload.digest, bare.payload.chunk_root]
    digests += [one.digest.sha256 for one in document.subject]
    rare = (bare.knowledge, bare.payload.decoded, bare.payload.reference)
    digests += [one for one in rare if one is not None]
    digits = "".join(digests).encode()
    return {*map(len, digests)} == {_HEX_DIGITS} and not digits.translate(None, _HEX)


@lru_cache(maxsize=256)
def _are_words(*words: str) -> bool:
    """Whether publisher, task and mechanism are what their fields ask for: they seldom change."""
    try:
        msgspec.convert(words, tuple[NodeField, Identifier, Mechanism], strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _whole(bare: _Bare) -> Artifact:
    payload, privacy = bare.payload, bare.privacy
    return Artifact(
        kind=bare.kind,
        publisher=bare.publisher,
        sequence=bare.sequence,
        round=bare.round,
        task=bare.task,
        base=bare.base,
        architecture=bare.architecture,
        parents=bare.parents,
        payload=Payload(
            digest=payload.digest,
            size=payload.size,
            format=payload.format,
            chunk_bytes=payload.chunk_bytes,
            chunk_root=payload.chunk_root,
            decoded=payload.decoded,
            reference=payload.reference,
        ),
        coverage=bare.coverage,
        privacy=PrivacySpent(
            mechanism=privacy.mechanism,
            unit=privacy.unit,
            epsilon_micro=privacy.epsilon_micro,
            delta_e12=privacy.delta_e12,
        ),
        charter=bare.charter,
        knowledge=bare.knowledge,
    )


def seal(artifact: Artifact, key: SigningKey) -> Envelope:
    """The signed envelope of `artifact`."""
    return dsse.sign(in_toto.PAYLOAD_TYPE, statement(artifact), key)


def open_sealed(envelope: Envelope, key: VerifyKey, *, limits: Limits = DEFAULT_LIMITS) -> Artifact:
    """The manifest in `envelope`: signature first, then everything `read_statement` checks.

    Raises `SignatureRefused` and what `read_statement` raises. That `key` is the one of
    `artifact.publisher` is for the caller to know.
    """
    return read_statement(
        dsse.verify(envelope, key, payload_type=in_toto.PAYLOAD_TYPE), limits=limits
    )


def _check_bounds(artifact: Artifact, limits: Limits) -> None:
    coverage, payload = artifact.coverage, artifact.payload
    for found, most, what in (
        (len(artifact.parents), limits.parents, "parents"),
        (len(coverage.classes) + len(coverage.not_evaluated), limits.classes, "classes"),
        (len(coverage.tensors), limits.tensors, "tensors in the coverage"),
        (payload.size, limits.payload_bytes, "bytes of payload"),
        (payload.chunk_bytes, limits.chunk_bytes, "bytes in a chunk"),
        (-(-payload.size // payload.chunk_bytes), limits.chunks, "chunks"),
    ):
        if found > most:
            raise LimitExceeded(f"{found} {what}; at most {most} are read")


def _check_sense(artifact: Artifact) -> None:
    coverage, privacy = artifact.coverage, artifact.privacy
    names = [item.name for item in coverage.classes] + list(coverage.not_evaluated)
    for found, what in (
        (artifact.parents, "a parent"),
        (names, "a class"),
        (coverage.tensors, "a tensor"),
    ):
        if len(found) > 1 and len(set(found)) != len(found):
            raise ManifestRefused(f"{what} is named twice")
    for rows in [coverage.rows, *(item.rows for item in coverage.classes)]:
        if rows not in _BUCKETS:
            raise ManifestRefused(f"{rows} rows are not the lower edge of a bucket")
    payload = artifact.payload
    if (payload.decoded is None) != (payload.format == PLAIN):
        raise ManifestRefused(
            f"tensors named beside a payload that is {payload.format}, or not named"
        )
    if payload.reference is not None and encoding_of(payload.format).codec == "plain":
        raise ManifestRefused("tensors that travel as they are cannot be a change")
    if payload.digest in artifact.parents:
        raise ManifestRefused("the payload is its own parent")
    nothing = privacy.unit == "none" and privacy.epsilon_micro == 0 and privacy.delta_e12 == 0
    if (privacy.mechanism == "none") != nothing:
        raise ManifestRefused("a privacy mechanism and figures that contradict each other")
