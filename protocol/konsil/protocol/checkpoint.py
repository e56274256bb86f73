"""Checkpoints: the signed head of one log, three lines in a signed note (C2SP tlog-checkpoint).

    <consortium>/<node id>
    <size, decimal>
    <base64 of the 32-byte RFC 6962 root>

Extension lines are refused: nobody could audit them. The log's key name is its origin.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import note
from konsil.protocol.errors import EncodingRefused, LocalProtocolError, SignatureRefused
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.merkle import HASH_BYTES

if TYPE_CHECKING:
    from konsil.protocol.identity import SigningKey, VerifyKey

MAX_SIZE = 2**63 - 1
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The head of a log: whose it is, how many entries it has, and their 32-byte root."""

    origin: str
    size: int
    root: bytes


def origin_of(consortium: str, node: str) -> str:
    """The origin line of the log of `node` in `consortium`.

    >>> origin_of("alps", "nodeid")
    'alps/nodeid'
    """
    return f"{consortium}/{node}"


def node_of(origin: str) -> str:
    """The node id in an origin line, unchecked: what stands behind the last slash.

    >>> node_of("alps/nodeid")
    'nodeid'
    """
    return origin.rpartition("/")[2]


def to_text(head: Checkpoint) -> str:
    """The three lines that are signed. Raises `LocalProtocolError` for an impossible head."""
    if len(head.root) != HASH_BYTES or not 0 <= head.size <= MAX_SIZE:
        raise LocalProtocolError(f"no checkpoint of {head.size} entries over {head.root!r}")
    return f"{head.origin}\n{head.size}\n{note.encode_base64(head.root)}\n"


def from_text(text: str) -> Checkpoint:
    """The head in exactly three lines. Raises `EncodingRefused`."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise EncodingRefused("checkpoint: not exactly three lines")
    size = parse_decimal(lines[1], "checkpoint size")
    root = note.decode_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise EncodingRefused(f"checkpoint: a root of {len(root)} bytes")
    return Checkpoint(origin=lines[0], size=size, root=root)


def parse_decimal(text: str, what: str) -> int:
    """A decimal below 2^63 without leading zeros. Raises `EncodingRefused` naming `what`."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise EncodingRefused(f"{what}: `{text[:32]}` is no canonical number")
    return int(text)


def sign(head: Checkpoint, key: SigningKey) -> bytes:
    """The checkpoint note over `head`, signed by the log's key under its origin."""
    return note.sign(to_text(head), [(head.origin, key)])


def open_checkpoint(
    data: bytes,
    *,
    origin: str,
    key: VerifyKey,
    only_known: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> Checkpoint:
    """The verified head of the log `origin`, whose key is `key`.

    `only_known` refuses lines by other signers, as our own stored checkpoint must not carry
    any. Raises `EncodingRefused`, `LimitExceeded` or `SignatureRefused`.
    """
    text, _ = note.open_note(
        data, [note.NoteKey(origin, key)], only_known=only_known, limits=limits
    )
    head = from_text(text)
    if head.origin != origin:
        raise SignatureRefused(f"checkpoint of {head.origin} instead of {origin}")
    return head
