"""Envelopes opened together: all are unpacked, then all signatures verified, then all read.

Between two signatures the processor forgets everything else, so that a log's envelopes one by
one, among its other entries, cost a third more than many at a time.

Invariant: only what `konsil.protocol.artifact.open_sealed` would return is returned. Whatever is
odd is left out without a word, for whoever opens it alone and says what is wrong with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import artifact, envelope, in_toto
from konsil.protocol.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.artifact import Artifact
    from konsil.protocol.envelope import Envelope
    from konsil.protocol.identity import VerifyKey
    from konsil.protocol.limits import Limits


def open_together(
    packed: Mapping[bytes, bytes], key: VerifyKey, limits: Limits
) -> dict[bytes, Artifact]:
    """The manifests in packed envelopes, by the digests of these, that `key` signed."""
    sealed = {env: _unpacked(data, limits) for env, data in packed.items()}
    payloads = {env: _verified(one, key) for env, one in sealed.items() if one is not None}
    read = {env: _read(data, limits) for env, data in payloads.items() if data is not None}
    return {env: manifest for env, manifest in read.items() if manifest is not None}


def _unpacked(data: bytes, limits: Limits) -> Envelope | None:
    try:
        return envelope.unpack(data, limits=limits)
    except RemoteError:
        return None


def _verified(sealed: Envelope, key: VerifyKey) -> bytes | None:
    try:
        return envelope.verify(sealed, key, payload_type=in_toto.PAYLOAD_TYPE)
    except RemoteError:
        return None


def _read(statement: bytes, limits: Limits) -> Artifact | None:
    try:
        return artifact.read_statement(statement, limits=limits)
    except RemoteError:
        return None
