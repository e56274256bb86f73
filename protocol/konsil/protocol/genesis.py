"""Genesis: the entry that founds a log, and the author that a stranger reads from it.

The node id is the hash of this entry, so the entry certifies itself: whoever holds its
bytes knows the node's name, consortium and keys. Each key signs
`konsil key <role>`, the consortium, the name and itself (line feeds between), which proves
that the founder held it and that it was made for this role and place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import msgspec

from konsil.protocol import entries, p256
from konsil.protocol.checkpoint import origin_of
from konsil.protocol.entries import NO_CHARTER
from konsil.protocol.errors import ManifestRefused
from konsil.protocol.identity import KeySet, VerifyKey, node_id
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import NodeGenesis, P256Key, RoleKey

if TYPE_CHECKING:
    from konsil.protocol.fields import Role
    from konsil.protocol.p256 import P256SigningKey


class Author(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes a log: node id, short name, consortium and public keys by role."""

    node: str
    name: str
    consortium: str
    keys: Mapping[str, VerifyKey]
    p256: bytes | None
    """The P-256 key for model signing, as its uncompressed point."""
    entry: bytes
    """The genesis entry itself."""

    @property
    def origin(self) -> str:
        """The origin line of the author's checkpoints."""
        return origin_of(self.consortium, self.node)


def possession(role: str, *, consortium: str, name: str, public: bytes) -> bytes:
    """The message that the key of `role` signs to prove that its owner held it."""
    head = f"konsil key {role}\n{consortium}\n{name}\n"
    return head.encode() + public


def build(
    *, name: str, consortium: str, keys: KeySet, p256_key: P256SigningKey | None = None
) -> NodeGenesis:
    """The genesis body of a new node. No charter exists yet, so its digest is 32 zero bytes."""
    proven = {
        cast("Role", role): RoleKey(
            public=key.public.raw,
            proof=key.sign(
                possession(role, consortium=consortium, name=name, public=key.public.raw)
            ),
        )
        for role, key in keys.keys.items()
    }
    foreign = None
    if p256_key is not None:
        message = possession("p256", consortium=consortium, name=name, public=p256_key.public)
        foreign = P256Key(public=p256_key.public, proof=p256_key.sign(message))
    return NodeGenesis(
        name=name, consortium=consortium, charter=NO_CHARTER, keys=proven, p256=foreign
    )


def read(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Author:
    """The author in the bytes of a genesis entry, every key proven.

    Raises `EncodingRefused`, `LimitExceeded`, `ManifestRefused` for an entry that founds
    nothing, and `SignatureRefused` for a key without proof.
    """
    entry = entries.decode(data, limits=limits)
    body = entry.b
    if not isinstance(body, NodeGenesis) or entry.n != 0:
        raise ManifestRefused(f"entry {entry.n} ({entry.t}) founds no log")
    fault = entries.fault_of(body)
    if fault:
        raise ManifestRefused(f"genesis of {body.name}: {fault}")
    if entry.c != NO_CHARTER or body.charter != NO_CHARTER:
        raise ManifestRefused(f"genesis of {body.name}: names a charter before there is one")
    keys: dict[str, VerifyKey] = {}
    for role, item in body.keys.items():
        keys[role] = _proven(role, item, body)
    if len({key.raw for key in keys.values()}) != len(keys):
        raise ManifestRefused(f"genesis of {body.name}: one key for two roles")
    foreign = None
    if body.p256 is not None:
        foreign = body.p256.public
        message = possession("p256", consortium=body.consortium, name=body.name, public=foreign)
        p256.verify(foreign, body.p256.proof, message)
    return Author(
        node=node_id(data),
        name=body.name,
        consortium=body.consortium,
        keys=keys,
        p256=foreign,
        entry=data,
    )


def _proven(role: str, item: RoleKey, body: NodeGenesis) -> VerifyKey:
    key = VerifyKey(item.public)
    message = possession(role, consortium=body.consortium, name=body.name, public=item.public)
    key.verify(item.proof, message)
    return key
