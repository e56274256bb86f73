"""Witnessing on the wire: the bodies of stream /konsil/witness/1 (C2SP tlog-witness).

A request is the body of `add-checkpoint`:

    old <size that the witness knows, 0 for none>
    <base64 hash>                  the consistency proof from there
    <empty line>
    <checkpoint note, verbatim>

An answer is a status line and a body: cosignature lines (200), the size that the witness
knows (409), nothing (the others). One value has one encoding. Nothing here is verified;
`konsil.trust.witnessing` decides.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from konsil.protocol import note
from konsil.protocol.checkpoint import parse_decimal
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.merkle import HASH_BYTES

Status = Literal[200, 400, 403, 404, 409, 422]
"""Cosigned; malformed; not signed by the log; unknown log; other size known; not consistent."""
COSIGNED: Status = 200
CONFLICT: Status = 409


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The wish that a witness may vouch for a checkpoint."""

    old: int
    """The size of this log that the witness is believed to know; 0 for none."""
    proof: tuple[bytes, ...]
    """The consistency proof from `old` to the checkpoint, hashes of 32 bytes."""
    note: bytes
    """The checkpoint note."""


class Response(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The answer of a witness: a status and what belongs to it."""

    status: Status
    body: bytes = b""

    @property
    def known_size(self) -> int | None:
        """The size that the witness knows, when that is what it answers (409)."""
        if self.status != CONFLICT:
            return None
        size, separator, rest = self.body.partition(b"\n")
        if not separator or rest:
            raise EncodingRefused("witness answer: not one line with a size")
        return parse_decimal(size.decode("ascii", "replace"), "witness answer")


def conflict(size: int) -> Response:
    """The answer that the witness knows another size of this log."""
    return Response(status=CONFLICT, body=b"%d\n" % size)


def encode_request(request: Request) -> bytes:
    """The bytes of a request. Raises `LocalProtocolError` for one that no witness reads."""
    lines = [f"old {request.old}", *(note.encode_base64(item) for item in request.proof)]
    data = "\n".join(lines).encode() + b"\n\n" + request.note
    try:
        decode_request(data)
    except RemoteError as error:
        raise LocalProtocolError(f"no witness reads this request: {error}") from error
    return data


def decode_request(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Request:
    """The request in some bytes. Raises `EncodingRefused` or `LimitExceeded`."""
    if len(data) > limits.message_bytes:
        raise LimitExceeded(f"a witness request of {len(data)} bytes")
    head, separator, checkpoint = data.partition(b"\n\n")
    if not separator or not checkpoint:
        raise EncodingRefused("witness request: no checkpoint")
    if len(checkpoint) > limits.proof_bytes:
        raise LimitExceeded(f"a checkpoint of {len(checkpoint)} bytes")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise EncodingRefused("witness request: not ASCII") from error
    if not first.startswith("old "):
        raise EncodingRefused("witness request: no old size")
    old = parse_decimal(first.removeprefix("old "), "witness request")
    return Request(old=old, proof=decode_hashes(lines, limits=limits), note=checkpoint)


def decode_hashes(lines: list[str], *, limits: Limits = DEFAULT_LIMITS) -> tuple[bytes, ...]:
    """The 32-byte hashes in base64 lines. Raises `EncodingRefused` or `LimitExceeded`."""
    if len(lines) > limits.proof_hashes:
        raise LimitExceeded(f"a consistency proof of {len(lines)} hashes")
    hashes = tuple(note.decode_base64(line) for line in lines)
    if any(len(item) != HASH_BYTES for item in hashes):
        raise EncodingRefused("consistency proof: a hash has 32 bytes")
    return hashes


def encode_response(response: Response) -> bytes:
    """The bytes of an answer. Raises `LocalProtocolError` for one that nobody reads."""
    data = b"%d\n" % response.status + response.body
    try:
        decode_response(data)
    except RemoteError as error:
        raise LocalProtocolError(f"nobody reads this answer: {error}") from error
    return data


def decode_response(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Response:
    """The answer in some bytes; the lines of a 200 are well-formed, but not verified.

    Raises `EncodingRefused`, `LimitExceeded`, or `SignatureRefused` for a signer that stands
    there twice.
    """
    line, separator, body = data.partition(b"\n")
    known: dict[bytes, Status] = {b"%d" % status: status for status in get_args(Status)}
    if not separator or line not in known:
        raise EncodingRefused("witness answer: no known status")
    response = Response(status=known[line], body=body)
    if response.status == COSIGNED:
        note.parse_lines(body, limits=limits)
    elif response.known_size is None and body:
        raise EncodingRefused(f"witness answer: a body behind {response.status}")
    return response
