"""Identity: Ed25519 keys by role, node ids and peer ids.

A node has five keys, one for each role, because a key that signs two kinds of statement
can be made to sign one that reads as the other. The node id is the hash of the node's
first ledger entry, so it survives every key rotation; the peer id names the transport key
alone. Keys are plain RFC 8032 Ed25519; a public key that is not canonical, or of small
order (one signature of it fits many messages), is refused.
"""

from __future__ import annotations

import base64
import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from konsil.protocol.digest import sha256
from konsil.protocol.errors import LocalProtocolError, SignatureRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROLES = ("log", "wit", "art", "peer", "rec")
"""What a key signs: checkpoints, cosignatures, artifacts, the transport, recovery."""

RECOVERY = "rec"
"""The role whose key a running node does without: it signs nothing but changes of keys."""

SEED_BYTES = 32
KEY_BYTES = 32

_FIELD = 2**255 - 19
_ORDER_8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
# The y of all eight points whose order divides 8, whatever the sign of x.
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class VerifyKey:
    """The public half of a key: 32 bytes that verify signatures."""

    __slots__ = ("_key", "key_id", "raw")

    key_id: str
    """The hint that names this key in an envelope: SHA-256 of it, in hex."""

    def __init__(self, raw: bytes) -> None:
        """Raises `SignatureRefused` on a wrong length, another form, and a small order."""
        if len(raw) != KEY_BYTES:
            raise SignatureRefused(f"a public key of {len(raw)} bytes; an Ed25519 key has 32")
        y = int.from_bytes(raw, "little") & (2**255 - 1)
        if y >= _FIELD:
            raise SignatureRefused("a public key that is not in canonical form")
        if y in _SMALL_ORDER:
            raise SignatureRefused("a public key of small order")
        self.raw = bytes(raw)
        self.key_id = sha256(self.raw).hex()
        self._key = Ed25519PublicKey.from_public_bytes(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if `signature` is this key's over `message`; else raise `SignatureRefused`."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            raise SignatureRefused("the signature does not verify") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and self.raw == other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __repr__(self) -> str:
        return f"VerifyKey({self.raw.hex()})"


class SigningKey:
    """The secret half of a key: 32 bytes of seed (RFC 8032), never shown by `repr`."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """Raises `LocalProtocolError` unless `seed` has 32 bytes."""
        if len(seed) != SEED_BYTES:
            raise LocalProtocolError(f"a key seed of {len(seed)} bytes; an Ed25519 seed has 32")
        self.seed = bytes(seed)
        self._key = Ed25519PrivateKey.from_private_bytes(self.seed)
        self.public = VerifyKey(self._key.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """The key of a seed: stored, or 32 new random bytes."""
        return cls(seed)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message` (deterministic, RFC 8032)."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.raw.hex()})"


class KeySet:
    """The keys of one node, by role: all five, or all but the recovery key, which may lie away."""

    __slots__ = ("keys",)

    def __init__(self, keys: Mapping[str, SigningKey]) -> None:
        """Raises `LocalProtocolError` unless there is one distinct key for each role."""
        if set(keys) | {RECOVERY} != set(ROLES):
            raise LocalProtocolError(f"keys for {sorted(keys)}; wanted {sorted(ROLES)}")
        if len({key.public.raw for key in keys.values()}) != len(keys):
            raise LocalProtocolError("two roles share one key")
        self.keys: Mapping[str, SigningKey] = MappingProxyType(
            {role: keys[role] for role in ROLES if role in keys}
        )

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> KeySet:
        """Five new keys; `random(n)` gives n random bytes."""
        return cls({role: SigningKey.from_seed(random(SEED_BYTES)) for role in ROLES})

    def __getitem__(self, role: str) -> SigningKey:
        return self.keys[role]

    def __contains__(self, role: str) -> bool:
        return role in self.keys

    def __repr__(self) -> str:
        return f"KeySet({', '.join(self.keys)})"


def node_id(genesis_entry: bytes) -> str:
    """The name of a node for life: 32 characters of base32 over its first ledger entry."""
    digest = hashlib.sha256(b"konsil node v1\n" + genesis_entry).digest()
    return base64.b32encode(digest[:20]).decode("ascii").lower()


def peer_id(peer_public: bytes) -> str:
    """The libp2p peer id of an Ed25519 key: `12D3KooW` and 44 more characters.

    It is base58btc of the identity multihash (0x00, length 36) of the key in libp2p's
    protobuf (libp2p specs, peer-ids: type 1, then 32 bytes of data). Raises
    `SignatureRefused` unless the key has 32 bytes.
    """
    if len(peer_public) != KEY_BYTES:
        raise SignatureRefused(f"a peer key of {len(peer_public)} bytes; an Ed25519 key has 32")
    number = int.from_bytes(b"\x00\x24\x08\x01\x12\x20" + peer_public, "big")
    characters = ""
    while number:
        number, remainder = divmod(number, 58)
        characters = _BASE58[remainder] + characters
    # base58btc writes each leading zero byte, here the one of the multihash, as "1".
    return "1" + characters
