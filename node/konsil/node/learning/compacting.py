"""Compacting: the worker's side of fewer bytes: what leaves is encoded, what comes is decoded.

Only here are encoded payloads opened, once the daemon has checked everything that their manifest
claims. What a payload decodes to goes into the blob store as a plain payload under its own
digest, the one that the publisher signed, or the payload is refused; so whatever is judged, mixed
and replayed is plain tensors. The public copies that error feedback needs are such blobs too:
they outlive a restart, and what is still owed is no file at all.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from konsil.knowledge import pack
from konsil.knowledge.compact import feedback, payload
from konsil.knowledge.screen import screen
from konsil.node.learning.worker_messages import Check, Checked, Encode, Encoded
from konsil.protocol.digest import sha256
from konsil.protocol.encoding import PLAIN
from konsil.protocol.errors import (
    ConfigError,
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
)
from konsil.protocol.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from konsil.knowledge.named import NamedTensors
    from konsil.node.learning.kinds.kind import Kind
    from konsil.node.store.blobs import BlobStore
    from konsil.protocol.digest import Digest
    from konsil.protocol.fields import Code

_log = logging.getLogger(__name__)


class Compacting:
    """Encodes and decodes the payloads of one kind, through the blob store."""

    def __init__(self, blobs: BlobStore, kind: Kind) -> None:
        self._blobs = blobs
        self._kind = kind

    def encode(self, request: Encode) -> Encoded:
        """A release as a change of the reference, or as it is where the codec cannot say it."""
        plain = Encoded(payload=request.release, tensors=request.release, format=PLAIN)
        held = self._held(request.reference)
        if held is None:
            return plain
        public, since = held
        try:
            sent = feedback.advance(self._load(request.release), public, request.codec, since=since)
        except (LocalProtocolError, ConfigError) as fault:
            _log.warning(
                "%s cannot be encoded as %s: %s", request.release.hex(), request.codec, fault
            )
            return plain
        return Encoded(
            payload=self._blobs.put(sent.data),
            tensors=self._blobs.put(pack.to_bytes(sent.public)),
            format=sent.word,
        )

    def check(self, request: Check) -> Checked:
        """Whether a spooled payload has its form and finite values; its tensors are stored.

        The reasons are those of `screen`, and `encoding`, `limit`, `payload` or `decoded` (other
        tensors than the publisher signed) for what is encoded.
        """
        path = Path(request.path)
        if request.format == PLAIN:
            return Checked(reasons=screen(path, request.form))
        held = self._held(request.reference)
        if held is None:
            return Checked(reasons=(EncodingRefused.code,))
        reason = self._decode(request, path, *held)
        if reason is not None:
            return Checked(reasons=(reason,))
        return Checked(reasons=screen(self._blobs.path(request.tensors), request.form))

    def _decode(
        self, request: Check, path: Path, public: NamedTensors, since: Digest
    ) -> Code | None:
        """Store what a payload decodes to, or say why it is refused."""
        try:
            if path.stat().st_size > payload.longest(public, DEFAULT_LIMITS):
                raise LimitExceeded("more bytes than any such model needs")
            decoded = feedback.follow(path.read_bytes(), request.format, public, since=since)
        except (EncodingRefused, LimitExceeded) as fault:
            _log.warning("a payload of the format %s: %s", request.format, fault)
            return fault.code
        except (RemoteError, OSError) as fault:
            _log.warning("a payload of the format %s: %s", request.format, fault)
            return "payload"
        data = pack.to_bytes(decoded)
        if sha256(data) != request.tensors:
            _log.warning("a payload decodes to %s", sha256(data).hex())
            return "decoded"
        self._blobs.put(data)
        return None

    def _held(self, reference: Digest | None) -> tuple[NamedTensors, Digest] | None:
        """The tensors that a change is of, and their digest; None where there are none."""
        if reference is not None:
            return self._load(reference), reference
        start = self._kind.start
        return None if start is None else (start, sha256(pack.to_bytes(start)))

    def _load(self, digest: Digest) -> NamedTensors:
        self._blobs.check(digest)
        return pack.load(self._blobs.path(digest))
