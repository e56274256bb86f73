"""P-256: the one key that is not Ed25519, for OpenSSF model signing.

Nothing of konsil's own is signed with it. It is bound to a node in the node's genesis entry
and used only by `konsil audit export`, because model-signing refuses Ed25519.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from konsil.protocol.errors import LocalProtocolError, SignatureRefused

SEED_BYTES = 32
PUBLIC_BYTES = 65
_ECDSA = ec.ECDSA(hashes.SHA256())


class P256SigningKey:
    """A private P-256 key made from 32 secret bytes; `repr` never shows them."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        """Raises `LocalProtocolError` unless `seed` is the big-endian number of a key."""
        if len(seed) != SEED_BYTES:
            raise LocalProtocolError(f"a P-256 key of {len(seed)} bytes; wanted {SEED_BYTES}")
        try:
            self._key = ec.derive_private_key(int.from_bytes(seed, "big"), ec.SECP256R1())
        except ValueError:
            raise LocalProtocolError("these 32 bytes are no P-256 key") from None
        self.seed = bytes(seed)
        self.public = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    def sign(self, message: bytes) -> bytes:
        """The ECDSA-SHA256 signature over `message`, in DER."""
        return self._key.sign(message, _ECDSA)

    def public_pem(self) -> bytes:
        """The public key in PEM, as model-signing reads it."""
        return public_pem(self.public)

    def __repr__(self) -> str:
        return f"P256SigningKey(public={self.public.hex()})"


def verify(public: bytes, signature: bytes, message: bytes) -> None:
    """Return if `signature` (DER) is that of `public` over `message`.

    `public` is the uncompressed SEC 1 point. Raises `SignatureRefused`.
    """
    try:
        _load(public).verify(signature, message, _ECDSA)
    except InvalidSignature:
        raise SignatureRefused("the P-256 signature does not verify") from None


def public_pem(public: bytes) -> bytes:
    """A public key, given as its uncompressed SEC 1 point, in PEM. Raises `SignatureRefused`."""
    return _load(public).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _load(public: bytes) -> ec.EllipticCurvePublicKey:
    if len(public) != PUBLIC_BYTES:
        raise SignatureRefused(f"a P-256 key of {len(public)} bytes; wanted {PUBLIC_BYTES}")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    except ValueError:
        raise SignatureRefused("these bytes are no point of P-256") from None
