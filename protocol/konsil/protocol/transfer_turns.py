"""The turns of a transfer: every state, every message that is in turn, and the events.

`PULL` and `SERVE` are the two sides of one conversation, which `transfer` describes. Either
side may say `Bye` instead of its next message.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from konsil.protocol.conversation import Direction, Left

if TYPE_CHECKING:
    from konsil.protocol.conversation import Table


class State(StrEnum):
    """Where a transfer stands, on either side."""

    START = "start"
    """Nothing was said."""
    ASKING = "asking"
    """The want is under way (pull), or waits for our answer (serve)."""
    OFFERED = "offered"
    """The offer waits to be accepted."""
    LISTING = "listing"
    """Digests are under way."""
    MOVING = "moving"
    """Chunks are under way."""
    COMPLETE = "complete"
    """Every chunk was moved; done is due."""
    REFUSED = "refused"
    """We refused what they said."""
    LEFT = "left"
    """We said the last word."""
    CLOSED = "closed"
    """They said the last word."""


_SEND, _RECEIVE, _REACH = Direction.SEND, Direction.RECEIVE, Direction.REACH

PULL: Final[Table[State]] = {
    (State.START, _SEND, "want"): State.ASKING,
    (State.ASKING, _RECEIVE, "offer"): State.OFFERED,
    (State.ASKING, _RECEIVE, "missing"): State.CLOSED,
    (State.ASKING, _RECEIVE, "busy"): State.CLOSED,
    (State.ASKING, _RECEIVE, "bye"): State.CLOSED,
    (State.ASKING, _SEND, "bye"): State.LEFT,
    (State.OFFERED, _SEND, "accept"): State.LISTING,
    (State.OFFERED, _RECEIVE, "bye"): State.CLOSED,
    (State.OFFERED, _SEND, "bye"): State.LEFT,
    (State.LISTING, _RECEIVE, "digests"): State.LISTING,
    (State.LISTING, _REACH, "listed"): State.MOVING,
    (State.LISTING, _RECEIVE, "bye"): State.CLOSED,
    (State.LISTING, _SEND, "bye"): State.LEFT,
    (State.MOVING, _RECEIVE, "chunk"): State.MOVING,
    (State.MOVING, _REACH, "moved"): State.COMPLETE,
    (State.MOVING, _RECEIVE, "bye"): State.CLOSED,
    (State.MOVING, _SEND, "bye"): State.LEFT,
    # One chunk too many is in turn, and refused because the manifest has no such chunk.
    (State.COMPLETE, _RECEIVE, "chunk"): State.COMPLETE,
    (State.COMPLETE, _SEND, "done"): State.LEFT,
    (State.COMPLETE, _RECEIVE, "bye"): State.CLOSED,
    (State.COMPLETE, _SEND, "bye"): State.LEFT,
    (State.REFUSED, _SEND, "bye"): State.LEFT,
}
"""Every turn of the side that pulls."""

SERVE: Final[Table[State]] = {
    (State.START, _RECEIVE, "want"): State.ASKING,
    (State.ASKING, _SEND, "offer"): State.OFFERED,
    (State.ASKING, _SEND, "missing"): State.LEFT,
    (State.ASKING, _SEND, "busy"): State.LEFT,
    (State.ASKING, _SEND, "bye"): State.LEFT,
    (State.ASKING, _RECEIVE, "bye"): State.CLOSED,
    (State.OFFERED, _RECEIVE, "accept"): State.LISTING,
    (State.OFFERED, _SEND, "bye"): State.LEFT,
    (State.OFFERED, _RECEIVE, "bye"): State.CLOSED,
    (State.LISTING, _SEND, "digests"): State.LISTING,
    (State.LISTING, _REACH, "listed"): State.MOVING,
    (State.LISTING, _SEND, "bye"): State.LEFT,
    (State.LISTING, _RECEIVE, "bye"): State.CLOSED,
    (State.MOVING, _SEND, "chunk"): State.MOVING,
    (State.MOVING, _REACH, "moved"): State.COMPLETE,
    (State.MOVING, _SEND, "bye"): State.LEFT,
    (State.MOVING, _RECEIVE, "bye"): State.CLOSED,
    (State.COMPLETE, _RECEIVE, "done"): State.CLOSED,
    (State.COMPLETE, _SEND, "bye"): State.LEFT,
    (State.COMPLETE, _RECEIVE, "bye"): State.CLOSED,
    (State.REFUSED, _SEND, "bye"): State.LEFT,
}
"""Every turn of the side that serves."""


class OfferReceived(msgspec.Struct, frozen=True, kw_only=True):
    """The artifact is there. Verify `envelope` and `proof`, then `accept` or `leave`.

    `knowledge` is for the caller to hold against the envelope, which names its digest or none.
    """

    envelope: bytes
    proof: bytes
    knowledge: bytes = b""
    size: int
    chunks: int


class ChunkVerified(msgspec.Struct, frozen=True, kw_only=True):
    """The next chunk, good; write `data` at byte `offset` of the payload."""

    index: int
    offset: int
    data: memoryview


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The last chunk is in. Send `done()`, then check the digest of the whole payload."""


class NotHeld(msgspec.Struct, frozen=True, kw_only=True):
    """They do not hold the artifact; ask somebody else."""


class TryLater(msgspec.Struct, frozen=True, kw_only=True):
    """They are busy; ask again after `retry_ms` milliseconds."""

    retry_ms: int


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """They ask for an artifact; answer with `offer`, `missing` or `busy`."""

    env: bytes


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """They take the offer: send `listing`, then `chunk` from index `first` on."""

    first: int


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """They have every chunk."""


PullEvent: TypeAlias = OfferReceived | ChunkVerified | Finished | NotHeld | TryLater | Left
ServeEvent: TypeAlias = Wanted | Accepted | Delivered | Left
