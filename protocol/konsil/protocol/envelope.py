"""Envelopes: DSSE, a signature over the exact bytes of a payload and its type.

What is signed is the pre-authentication encoding of DSSE v1 (secure-systems-lab/dsse,
protocol.md), never an object. An envelope carries exactly one signature. On the wire it is
cmp1 of {payload, payload_type, signatures}; for other tools the same bytes are exported as
the standard JSON form, without signing again. The digest of the packed envelope is the
`env` by which an artifact is asked for.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated

import msgspec

from konsil.protocol import records
from konsil.protocol.errors import SignatureRefused
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import SignatureField

if TYPE_CHECKING:
    from konsil.protocol.identity import SigningKey, VerifyKey


class EnvelopeSignature(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False
):
    """One signature: a hint that names the key, and 64 bytes of Ed25519."""

    keyid: str
    sig: SignatureField


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, gc=False):
    """A payload, what it is, and the one signature over both."""

    payload: bytes
    payload_type: Annotated[str, msgspec.Meta(max_length=128, pattern=r"^[!-~]+\Z")]
    signatures: Annotated[tuple[EnvelopeSignature, ...], msgspec.Meta(min_length=1, max_length=1)]


_DECODER = msgspec.msgpack.Decoder(Envelope)
_DEPTH = records.plan(Envelope)[1]


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: `DSSEv1`, both lengths, the type and the payload.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload_type: str, payload: bytes, key: SigningKey) -> Envelope:
    """An envelope around `payload`, signed by `key`."""
    signature = EnvelopeSignature(keyid=key.public.key_id, sig=key.sign(pae(payload_type, payload)))
    return Envelope(payload=payload, payload_type=payload_type, signatures=(signature,))


def verify(envelope: Envelope, key: VerifyKey, *, payload_type: str) -> bytes:
    """The exact payload, once the envelope holds what `key` signed as `payload_type`.

    Raises `SignatureRefused` on another type, another number of signatures, a hint that
    names another key, and a signature that does not verify.
    """
    if envelope.payload_type != payload_type:
        raise SignatureRefused(
            f"an envelope of type {envelope.payload_type!r}; wanted {payload_type!r}"
        )
    if len(envelope.signatures) != 1:
        raise SignatureRefused(f"{len(envelope.signatures)} signatures; wanted exactly one")
    (signature,) = envelope.signatures
    if signature.keyid != key.key_id:
        raise SignatureRefused("the envelope names another key")
    key.verify(signature.sig, pae(payload_type, envelope.payload))
    return envelope.payload


def pack(envelope: Envelope) -> bytes:
    """The envelope as it travels and is stored; its SHA-256 is the artifact's `env`."""
    try:
        data = records.ENCODER.encode(envelope)
    except (TypeError, ValueError, OverflowError):
        data = b""
    return data if _quick(data, DEFAULT_LIMITS) == envelope else records.pack(envelope)


def unpack(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Envelope:
    """The envelope in `data`, not yet verified; raises `EncodingRefused`, `LimitExceeded`."""
    found = _quick(data, limits)
    if found is not None:
        return found
    return records.unpack(data, Envelope, limits=limits, max_bytes=limits.envelope_bytes)


def _quick(data: bytes, limits: Limits) -> Envelope | None:
    """As in `records`, but only the texts are looked at: the type says that all of them but the
    hint are plain, and the payload may be long."""
    size = len(data)
    if size > limits.envelope_bytes or size > limits.items or limits.depth < _DEPTH:
        return None
    try:
        found = _DECODER.decode(data)
        if records.ENCODER.encode(found) != data:
            return None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return None
    hint = found.signatures[0].keyid
    short = max(len(hint), len(found.payload_type)) <= limits.text_bytes
    return found if short and hint.isascii() and hint.isprintable() else None


def to_json(envelope: Envelope) -> bytes:
    """The standard DSSE JSON of the same signed bytes, for tools that are not ours."""
    signatures = [
        {"keyid": one.keyid, "sig": base64.b64encode(one.sig).decode("ascii")}
        for one in envelope.signatures
    ]
    document = {
        "payload": base64.b64encode(envelope.payload).decode("ascii"),
        "payloadType": envelope.payload_type,
        "signatures": signatures,
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode("ascii")
