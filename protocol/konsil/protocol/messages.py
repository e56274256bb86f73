"""Messages: everything that two nodes say to each other, and its bytes.

Every message but one is a record: cmp1 of a map whose `t` names the type (`docs/spec/wire.md`
lists the fields). The exception is `Chunk`, which carries up to a MiB: its body is the byte
`C` (no map of cmp1 starts with it), the chunk's index as u32 big-endian, and the data as it
is, so that bulk is never packed, copied for a decoder or compared.

The reader's order is: length, canonical form, type, format version, fields, bounds. A
`Hello` of a format that is not known here is refused by name before any of its other fields
is looked at, so a future format may change all of them. What this side would refuse to read
it also refuses to send.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from konsil.protocol import cmp1, jcs, records
from konsil.protocol.artifact import Kind
from konsil.protocol.digest import DIGEST_BYTES
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    LocalProtocolError,
    RemoteError,
    SessionRefused,
)
from konsil.protocol.frames import Bytes, frame
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.records import DigestField, NameField, NodeField

FORMAT: Final = 1
"""The one wire format that this node speaks."""

CHUNK_TAG: Final = b"C"
CHUNK_HEADER_BYTES: Final = 5
PAGE_DIGESTS: Final = 4_096
"""Digests in each page of a listing but the last, which holds the rest."""

HEADS_TYPE: Final = "application/vnd.konsil.heads+cmp1"
"""The payload type of the envelope in which an `Announcement` is gossiped."""

Sequence: TypeAlias = Annotated[int, Meta(ge=1, le=jcs.INT_MAX)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=jcs.INT_MAX)]
FormatWord: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9+]{1,64}\Z")]


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A claim: `publisher` made artifact `env` its number `sequence` of this kind.

    `art` is the payload's digest and `size` its bytes; `round` is the publisher's own. The
    claim is proven only by the envelope whose digest is `env`.
    """

    publisher: NodeField
    kind: Kind
    sequence: Sequence
    env: DigestField
    art: DigestField
    size: Sequence
    round: Count


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="t"):
    """A message whose map carries its type under `t`."""


class Hello(_Record, frozen=True, kw_only=True, tag="hello"):
    """Who is speaking, in which format, for which consortium and member list.

    `genesis` is the first entry of the speaker's ledger; `node` must be its node id.
    `version` is the software's, for people. `reads` are the formats of payloads that it reads;
    words that are unknown here count for nothing.
    """

    format: int = FORMAT
    consortium: NameField
    node: NodeField
    name: NameField
    charter: DigestField
    genesis: bytes
    version: str
    reads: tuple[FormatWord, ...]


class Have(_Record, frozen=True, kw_only=True, tag="have"):
    """The newest artifact of each publisher and kind that the sender can serve.

    `neighbours` are the node ids it is connected to, `degree` the number it mixes with; 0 while
    its task is not open yet.
    `learning` is false when it will publish nothing more: nobody need wait for it.
    """

    heads: tuple[Head, ...]
    degree: Count
    neighbours: tuple[NodeField, ...]
    learning: bool


class Ping(_Record, frozen=True, kw_only=True, tag="ping"):
    """Are you there? The answer is a `Pong` with the same nonce."""

    nonce: Count


class Pong(_Record, frozen=True, kw_only=True, tag="pong"):
    """The answer to the one `Ping` that is open."""

    nonce: Count


class Bye(_Record, frozen=True, kw_only=True, tag="bye"):
    """The sender leaves, for a reason that a person can read; nothing follows."""

    reason: str


class Want(_Record, frozen=True, kw_only=True, tag="want"):
    """Asks for the artifact whose envelope has the digest `env`."""

    env: DigestField


class Offer(_Record, frozen=True, kw_only=True, tag="offer"):
    """The signed envelope, the proof that it is logged, and how much would follow.

    `knowledge` is the knowledge manifest that the envelope names; empty when it names none.
    """

    envelope: bytes
    proof: bytes
    knowledge: bytes
    size: Sequence
    chunks: Sequence


class Missing(_Record, frozen=True, kw_only=True, tag="missing"):
    """The sender does not hold what was asked for."""

    env: DigestField


class Busy(_Record, frozen=True, kw_only=True, tag="busy"):
    """Ask again after `retry_ms` milliseconds (at most an hour)."""

    retry_ms: Annotated[int, Meta(ge=0, le=3_600_000)]


class Accept(_Record, frozen=True, kw_only=True, tag="accept"):
    """The manifest is good: send the digests, then the chunks from index `first` on."""

    first: Count


class Digests(_Record, frozen=True, kw_only=True, tag="digests"):
    """One page of the digests of all chunks: the `first` one's index, and 32 bytes for each."""

    first: Count
    digests: bytes


class Done(_Record, frozen=True, kw_only=True, tag="done"):
    """Every chunk has arrived and has its digest."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a payload; the last may be shorter than the others. Not a record."""

    index: int
    data: bytes | memoryview


class Announcement(_Record, frozen=True, kw_only=True, tag="announcement"):
    """New heads, gossiped to everybody inside an envelope signed by the `art` key.

    `checkpoint` is the newest of the sender's own log, `sent_ms` its clock. Never on a
    stream.
    """

    node: NodeField
    heads: tuple[Head, ...]
    degree: Count
    neighbours: tuple[NodeField, ...]
    checkpoint: bytes
    sent_ms: Count


Record: TypeAlias = (
    Hello
    | Have
    | Ping
    | Pong
    | Bye
    | Want
    | Offer
    | Missing
    | Busy
    | Accept
    | Digests
    | Done
    | Announcement
)
Message: TypeAlias = Record | Chunk
"""Anything that may arrive."""

TYPES: Final[dict[str, type[Record]]] = {
    "hello": Hello,
    "have": Have,
    "ping": Ping,
    "pong": Pong,
    "bye": Bye,
    "want": Want,
    "offer": Offer,
    "missing": Missing,
    "busy": Busy,
    "accept": Accept,
    "digests": Digests,
    "done": Done,
    "announcement": Announcement,
}
"""The closed list of records, by the name under `t`."""

_NAMES: Final[dict[type[Message], str]] = {
    **{kind: name for name, kind in TYPES.items()},
    Chunk: "chunk",
}


def name_of(message: Message) -> str:
    """The word for this type of message: its `t`, or `chunk`."""
    return _NAMES[type(message)]


def pack(message: Record, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The canonical bytes of a record.

    Raises `LocalProtocolError` on one that `unpack` would refuse.
    """
    data = records.pack(message)
    try:
        _check_bounds(message, len(data), limits)
    except RemoteError as fault:
        text = f"this {name_of(message)} would be refused: {fault.message}"
        raise LocalProtocolError(text) from None
    return data


def unpack(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Record:
    """The record in `data`.

    Raises `SessionRefused` on a `Hello` of an unknown format, `LimitExceeded` beyond
    `limits`, and `EncodingRefused` on anything else that is not exactly one known record.
    """
    value = cmp1.decode(data, limits=limits, max_bytes=limits.message_bytes)
    name = value.get("t") if isinstance(value, dict) else None
    kind = TYPES.get(name) if isinstance(name, str) else None
    if not isinstance(value, dict) or kind is None:
        raise EncodingRefused("not a message of this protocol")
    if kind is Hello:
        _check_format(value.get("format"))
    message = records.typed(value, kind)
    _check_bounds(message, len(data), limits)
    return message


def encode(message: Message, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The frame of a message, in one piece; a chunk's data is copied once.

    Raises `LocalProtocolError` on a message that would be refused.
    """
    if not isinstance(message, Chunk):
        return frame(pack(message, limits=limits))
    if not 0 <= message.index < limits.chunks or not 1 <= len(message.data) <= limits.chunk_bytes:
        raise LocalProtocolError(f"chunk {message.index} of {len(message.data)} bytes")
    return frame(CHUNK_TAG, message.index.to_bytes(4, "big"), message.data)


def decode(body: Bytes, *, limits: Limits = DEFAULT_LIMITS) -> Message:
    """The message in the body of a frame; the data of a chunk is a view of `body`.

    Raises what `unpack` raises.
    """
    view = memoryview(body)
    if view[:1].tobytes() != CHUNK_TAG:
        if len(view) > limits.message_bytes:
            raise LimitExceeded(f"a message of {len(view)} bytes")
        return unpack(bytes(view), limits=limits)
    index, data = int.from_bytes(view[1:CHUNK_HEADER_BYTES], "big"), view[CHUNK_HEADER_BYTES:]
    if not data:
        raise EncodingRefused("a chunk without data")
    _at_most(len(data), limits.chunk_bytes, "bytes in a chunk")
    _at_most(index + 1, limits.chunks, "chunks")
    return Chunk(index=index, data=data)


def _check_format(value: cmp1.Value) -> None:
    if type(value) is not int:
        raise EncodingRefused("a hello without a format number")
    if value != FORMAT:
        raise SessionRefused(
            f"format {value} is not known here; this node speaks {FORMAT}",
            hint="one of the two nodes needs another version of konsil",
        )


def _check_bounds(message: Record, size: int, limits: Limits) -> None:
    """Refuse what the types admit and `limits` do not; `size` is that of the whole record."""
    announced = isinstance(message, Announcement)
    longest = limits.announcement_bytes if announced else limits.message_bytes
    _at_most(size, longest, f"bytes of {name_of(message)}")
    match message:
        case Hello():
            _at_most(len(message.genesis), limits.entry_bytes, "bytes of genesis entry")
            _at_most(len(message.reads), limits.formats, "formats")
        case Have() | Announcement():
            _at_most(len(message.heads), limits.heads, "heads")
            _at_most(len(message.neighbours), limits.members, "neighbours")
            _at_most(message.degree, limits.members, "members to mix with")
        case Offer():
            _at_most(len(message.envelope), limits.envelope_bytes, "bytes of envelope")
            _at_most(len(message.proof), limits.proof_bytes, "bytes of proof")
            _at_most(len(message.knowledge), limits.knowledge_bytes, "bytes of knowledge manifest")
            _at_most(message.size, limits.payload_bytes, "bytes of payload")
            _at_most(message.chunks, limits.chunks, "chunks")
        case Digests():
            count, rest = divmod(len(message.digests), DIGEST_BYTES)
            if rest or not count:
                raise EncodingRefused(f"{len(message.digests)} bytes are no list of digests")
            _at_most(count, PAGE_DIGESTS, "digests in a page")
        case _:
            pass


def _at_most(found: int, bound: int, what: str) -> None:
    if found > bound:
        raise LimitExceeded(f"{found} {what}; at most {bound} are read")
