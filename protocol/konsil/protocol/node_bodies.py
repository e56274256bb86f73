"""Entry bodies of the node itself: its founding, starts and keys, what it found out about peers.

A change of keys is signed by the recovery key and by the new key over `key_change`, so that a
stolen role key can neither replace itself nor be replaced by a key that nobody holds.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from konsil.protocol.fields import Code, Count, Role
from konsil.protocol.records import DigestField, KeyField, NameField, NodeField, SignatureField


class RoleKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One public Ed25519 key and the proof that its owner held the private one."""

    public: KeyField
    proof: SignatureField


class P256Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A NIST P-256 key for OpenSSF model signing, which knows no Ed25519.

    `public` is the uncompressed SEC 1 point (65 bytes), `proof` an ECDSA-SHA256 signature (DER).
    """

    public: Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]
    proof: Annotated[bytes, msgspec.Meta(min_length=8, max_length=72)]


class NodeGenesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first entry of every log: who writes it, and with which keys."""

    name: NameField
    consortium: NameField
    charter: DigestField
    keys: dict[Role, RoleKey]
    p256: P256Key | None


class PeerSize(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many of our entries a peer has seen signed for."""

    node: NodeField
    size: Count


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Entries `first` to `last`, both included."""

    first: Count
    last: Count


class NodeBoot(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The node started: `size` and `root` are its log before this entry, `peers` what others
    had seen of it, `lost` the entries whose bodies a recovery could not bring back: of those
    before this one, each at most once, in ascending order."""

    software: DigestField
    size: Count
    root: DigestField
    peers: list[PeerSize]
    lost: list[Span]


class KeyRotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The key of a role is replaced in good order: everything before this entry stays valid.

    `last_good_size` is the position of the entry itself.
    """

    role: Role
    old: KeyField
    new: KeyField
    reason: Code
    last_good_size: Count
    by_rec: SignatureField
    by_new: SignatureField


class KeyRevoke(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The key of a role was stolen or lost: what it signed from `last_good_size` on is void."""

    role: Role
    old: KeyField
    new: KeyField
    reason: Code
    last_good_size: Count
    by_rec: SignatureField
    by_new: SignatureField


class PeerExposed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`node` provably broke the rules; `evidence` convinces a stranger (a fork proof)."""

    node: NodeField
    kind: Code
    evidence: DigestField


class PeerSuspect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`node` owes an answer, which may be a fault of the network: no proof of anything."""

    node: NodeField
    kind: Code
    evidence: DigestField | None


class PeerClear(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`node` answered: it is not suspected any more. What is exposed stays exposed."""

    node: NodeField
    kind: Code
    evidence: DigestField | None


class LogRedact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of entry `index` was pruned for a legal reason; its leaf hash stays.

    `kind` and `written_ms` are its type and its time; `front` is what proves them
    (`konsil.protocol.leaves`).
    """

    index: Count
    leaf: DigestField
    front: DigestField
    kind: Code
    written_ms: Count
    legal: Code
    authority: DigestField


class AuditRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The owner audited entries `from_size` to `to_size`; `result` is the exit code."""

    scope: Code
    from_size: Count
    to_size: Count
    result: Annotated[int, msgspec.Meta(ge=0, le=255)]
    report: DigestField


KeyChange = KeyRotate | KeyRevoke


def key_change(node: str, body: KeyChange) -> bytes:
    """The message that the recovery key and the new key sign."""
    word = "key.rotate" if isinstance(body, KeyRotate) else "key.revoke"
    head = f"konsil {word}\n{node}\n{body.role}\n{body.last_good_size}\n{body.reason}\n"
    return head.encode() + body.old + body.new
