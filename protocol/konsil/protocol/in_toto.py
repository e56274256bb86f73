"""in-toto: the frame of a statement about one payload (in-toto/attestation, spec/v1/statement.md).

Tools that know only in-toto find the payload's SHA-256 in the subject; what is said of it is the
predicate's. Both must name the same payload.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from konsil.protocol.errors import ManifestRefused
from konsil.protocol.records import HexField

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
SUBJECT_NAME = "payload"

S = TypeVar("S")
A = TypeVar("A")


class SubjectDigest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False
):
    """The digests of a subject."""

    sha256: HexField


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """What a statement is about."""

    name: str
    digest: SubjectDigest


class Statement(
    msgspec.Struct,
    Generic[S, A],
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    rename={"type": "_type", "predicate_type": "predicateType"},
):
    """Subjects of the form `S`, and a predicate of the form `A` about them."""

    type: str
    subject: tuple[S, ...]
    predicate_type: str
    predicate: A


def subject_of(sha256: str) -> tuple[Subject, ...]:
    """The subject of a statement about the payload with this digest."""
    return (Subject(name=SUBJECT_NAME, digest=SubjectDigest(sha256=sha256)),)


def check(document: Statement[Subject, A], predicate_type: str, sha256: str) -> None:
    """Raise `ManifestRefused` unless it is a statement of this type about this payload alone."""
    if document.type != STATEMENT_TYPE:
        raise ManifestRefused(f"a statement of type {document.type!r}")
    if document.predicate_type != predicate_type:
        raise ManifestRefused(f"a predicate of type {document.predicate_type!r}")
    if len(document.subject) != 1 or document.subject[0].name != SUBJECT_NAME:
        raise ManifestRefused("a statement whose subject is not exactly the payload")
    if document.subject[0].digest.sha256 != sha256:
        raise ManifestRefused("the subject and the predicate name different payloads")
