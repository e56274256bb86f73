"""in-toto: the signed statement of one artifact, as the DSSE JSON that other tools verify.

Nothing is signed again: the JSON carries the very payload and signature that travelled.
Whether they verify is for the reader to check; the key is the publisher's `art` key.
"""

from __future__ import annotations

from konsil.protocol import envelope
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

MEDIA_TYPE = "application/vnd.in-toto+json"


def to_intoto(sealed: bytes, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The DSSE JSON of a packed envelope. Raises `EncodingRefused` or `LimitExceeded`."""
    return envelope.to_json(envelope.unpack(sealed, limits=limits)) + b"\n"
