"""Charter: the signed rules of a consortium, one version after the other.

A charter is canonical JSON in a DSSE envelope with many signatures; its digest is the SHA-256
of that JSON. Version 0 is the list that the founders hold (`konsil.protocol.members`) and is
signed by nobody; version 1 is signed by every member that it names. A later version needs the
threshold of the version before it and its own, and a threshold is a quorum: two rival versions
would need members that signed both. What members decide about one node (to add, suspend or
remove it) is a verdict, signed in the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from konsil.protocol import jcs, records
from konsil.protocol.artifact import Count, Kind
from konsil.protocol.cosignature import quorum
from konsil.protocol.digest import Digest, sha256
from konsil.protocol.envelope import EnvelopeSignature, pae
from konsil.protocol.errors import EncodingRefused, ManifestRefused, SignatureRefused
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import HexField, NameField, NodeField

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.protocol.identity import SigningKey, VerifyKey

CHARTER_TYPE = "application/vnd.konsil.charter+json"
VERDICT_TYPE = "application/vnd.konsil.verdict+json"
MAX_SIGNATURES = 1_024

T = TypeVar("T")
Few = Annotated[int, Meta(ge=1, le=MAX_SIGNATURES)]
Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_.-]*\Z")]


class CharterMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One member: who it is (`genesis` is the SHA-256 of its genesis entry), what it may
    publish, and from when to when."""

    name: NameField
    node: NodeField
    genesis: HexField
    roles: tuple[Word, ...]
    kinds: tuple[Kind, ...]
    valid_from_ms: Count
    valid_until_ms: Count


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many members a new charter, a verdict and a checkpoint need, and how many may lie."""

    charter: Few
    member: Few
    cosign: Few
    faults: Count


class ExportRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an artifact of one kind must keep to; a kind without a rule may not leave.

    No `mechanisms` means that any will do, `none` among them that privacy may be unspent.
    """

    kind: Kind
    min_cohort: Count
    min_label_rows: Count
    mechanisms: tuple[Word, ...]
    max_release_micro: Count
    max_total_micro: Count
    max_delta_e12: Count
    max_bytes: Count


class Charter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One version of the rules. No `export` means that no export policy is in force;
    `retention_ms` says by entry type how long a body stays at the least."""

    version: Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
    prev: HexField
    name: NameField
    members: Annotated[tuple[CharterMember, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)]
    thresholds: Thresholds
    export: tuple[ExportRule, ...]
    retention_ms: dict[Word, Count]
    expires_ms: Count

    def members_at(self, now_ms: int) -> frozenset[str]:
        """The node ids of those who are members at a time."""
        return frozenset(
            one.node for one in self.members if one.valid_from_ms <= now_ms < one.valid_until_ms
        )


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What members decided about `node`, under the charter with this digest."""

    charter: HexField
    node: NodeField
    genesis: HexField
    verdict: Literal["add", "suspend", "remove"]
    effective_ms: Count


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payload, what it is, and the signatures of many over both (DSSE)."""

    payload: bytes
    payload_type: Annotated[str, Meta(max_length=128, pattern=r"^[!-~]+\Z")]
    signatures: Annotated[
        tuple[EnvelopeSignature, ...], Meta(min_length=1, max_length=MAX_SIGNATURES)
    ]


def canonical(document: Charter | Verdict) -> bytes:
    """The bytes that are signed; a charter's digest is their SHA-256."""
    return jcs.canonical(msgspec.to_builtins(document))


def digest(document: Charter | Verdict) -> Digest:
    """The digest by which entries name the document."""
    return sha256(canonical(document))


def sign(document: Charter | Verdict, keys: Sequence[SigningKey]) -> bytes:
    """The packed envelope of a document, signed by each of `keys`."""
    kind = CHARTER_TYPE if isinstance(document, Charter) else VERDICT_TYPE
    payload = canonical(document)
    signatures = tuple(
        EnvelopeSignature(keyid=key.public.key_id, sig=key.sign(pae(kind, payload))) for key in keys
    )
    return records.pack(Signed(payload=payload, payload_type=kind, signatures=signatures))


def open_charter(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Signed, Charter]:
    """The charter in a packed envelope; who signed it is still to be asked.

    Raises `EncodingRefused`, `LimitExceeded`, or `ManifestRefused` for one at odds with itself.
    """
    signed, found = _open(data, CHARTER_TYPE, Charter, limits)
    _check_sense(found)
    return signed, found


def open_verdict(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Signed, Verdict]:
    """The verdict in a packed envelope; who signed it is still to be asked. Raises as above."""
    return _open(data, VERDICT_TYPE, Verdict, limits)


def signers(signed: Signed, keys: Mapping[str, Sequence[VerifyKey]]) -> frozenset[str]:
    """Which nodes signed; `keys` are the `art` keys of each.

    Each node counts once, and of several signatures by one key the first is looked at.
    """
    message = pae(signed.payload_type, signed.payload)
    owners = {key.key_id: (node, key) for node, held in keys.items() for key in held}
    found: set[str] = set()
    for one in signed.signatures:
        if one.keyid not in owners:
            continue
        node, key = owners.pop(one.keyid)
        try:
            key.verify(one.sig, message)
        except SignatureRefused:
            continue
        found.add(node)
    return frozenset(found)


def succession_fault(
    before: Charter | None, prev: Digest, new: Charter, by: frozenset[str], now_ms: int
) -> str:
    """Why `new`, signed by the nodes `by`, may not follow; empty when it may.

    `before` is the version in force, None for version 0; `prev` is its digest.
    """
    version = 1 if before is None else before.version + 1
    if new.version != version:
        return f"version {new.version} follows version {version - 1}"
    if new.prev != prev.hex():
        return "it names another version before it"
    if before is not None and new.name != before.name:
        return "it is of another consortium"
    if new.expires_ms <= now_ms:
        return "it has expired"
    members = new.members_at(now_ms)
    needed = len(members) if before is None else new.thresholds.charter
    if len(by & members) < needed:
        return f"{len(by & members)} of the {needed} members that it needs signed it"
    if before is None:
        return ""
    old = by & before.members_at(now_ms)
    if len(old) < before.thresholds.charter:
        return f"{len(old)} of the {before.thresholds.charter} members signed that still decide"
    return ""


def _open(data: bytes, word: str, kind: type[T], limits: Limits) -> tuple[Signed, T]:
    signed = records.unpack(data, Signed, limits=limits, max_bytes=limits.message_bytes)
    if signed.payload_type != word:
        raise ManifestRefused(f"an envelope of type {signed.payload_type!r}; wanted {word!r}")
    value = jcs.parse(signed.payload, limits=limits, max_bytes=limits.message_bytes)
    try:
        return signed, msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as fault:
        raise EncodingRefused(str(fault)) from None


def _check_sense(found: Charter) -> None:
    count, needs = len(found.members), found.thresholds
    for names, what in (
        ([one.node for one in found.members], "node"),
        ([one.name for one in found.members], "name"),
        ([one.genesis for one in found.members], "genesis entry"),
        ([one.kind for one in found.export], "kind in the export policy"),
    ):
        if len(set(names)) != len(names):
            raise ManifestRefused(f"charter {found.version}: a {what} stands twice")
    reachable = needs.faults < count and quorum(count, needs.faults) <= needs.charter <= count
    if not reachable:
        raise ManifestRefused(
            f"charter {found.version}: {needs.charter} of {count} members is no quorum"
        )
    if max(needs.member, needs.cosign) > count:
        raise ManifestRefused(f"charter {found.version}: a threshold that nobody can reach")
