"""Transfer: one artifact pulled over one stream, in chunks, each verified when it arrives.

    Pull                                      Serve
    Want(env)                     →
                                  ←           Offer(envelope, proof, knowledge, size …)
                                              or Missing, or Busy
    Accept(first)                 →           once the caller has verified the envelope
                                  ←           Digests, page after page: all chunk digests
                                  ←           Chunk first, first + 1, … to the last
    Done                          →

`Pull` takes nothing on trust: the envelope must have the digest that was asked for, the
size must be that of the signed manifest, the digests must lead to its chunk root before any
chunk is taken, and each chunk must be the next, as long as the manifest says, and have its
digest. What contradicts the manifest is `ManifestRefused`, what comes out of turn
`SessionRefused`. So chunks may come from any peer, and a broken pull goes on at the first
chunk that is missing. The digest of the whole payload is for the caller to check, over the
file it wrote.

Memory: the digests (32 bytes a chunk) and one frame. Either side may say `Bye` instead of
its next message. All that decides who may say what is in `transfer_turns`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.chunks import chunk_root
from konsil.protocol.conversation import Conversation, Direction
from konsil.protocol.digest import DIGEST_BYTES, Digest, sha256
from konsil.protocol.errors import (
    LimitExceeded,
    LocalProtocolError,
    ManifestRefused,
    RemoteError,
    SessionRefused,
)
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.messages import (
    CHUNK_HEADER_BYTES,
    PAGE_DIGESTS,
    Accept,
    Busy,
    Chunk,
    Digests,
    Done,
    Message,
    Missing,
    Offer,
    Want,
)
from konsil.protocol.transfer_turns import (
    PULL,
    SERVE,
    Accepted,
    ChunkVerified,
    Delivered,
    Finished,
    NotHeld,
    OfferReceived,
    PullEvent,
    ServeEvent,
    State,
    TryLater,
    Wanted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.artifact import Artifact, Payload


def chunk_count(size: int, chunk_bytes: int) -> int:
    """How many chunks of `chunk_bytes` a payload of `size` bytes has."""
    return -(-size // chunk_bytes)


class Pull(Conversation[State, PullEvent]):
    """Asks one peer for the artifact whose envelope has the digest `env`."""

    def __init__(self, env: Digest, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(
            PULL, start=State.START, refused=State.REFUSED, left=State.LEFT, limits=limits
        )
        self._env = env
        self._offered = (0, 0)
        self._size = 0
        self._chunk_bytes = 0
        self._count = 0
        self._root = b""
        self._digests = bytearray()
        self._next = 0

    @property
    def next_chunk(self) -> int:
        """The index of the first chunk that is still missing: where to resume."""
        return self._next

    def start(self) -> bytes:
        """The `Want` that opens the conversation."""
        return self._send(Want(env=self._env))

    def accept(self, artifact: Artifact, *, first: int = 0) -> bytes:
        """The `Accept` after `OfferReceived`, for the chunks from index `first` on.

        `artifact` is the manifest in the offered envelope, whose signature the caller has
        verified; the chunks before `first` are already in its file, verified by an earlier
        pull. Raises `ManifestRefused` or `LimitExceeded` when the manifest contradicts the
        offer or asks for too much, and `LocalProtocolError` out of turn.
        """
        payload = artifact.payload
        count = chunk_count(payload.size, payload.chunk_bytes)
        if self._state is State.OFFERED:
            try:
                self._check_payload(payload, count)
            except RemoteError as fault:
                self._refuse(fault)
                raise
            if not 0 <= first <= count:
                raise LocalProtocolError(f"chunk {first} of {count} accepted")
        data = self._send(Accept(first=first))
        self._size, self._chunk_bytes, self._count = payload.size, payload.chunk_bytes, count
        self._root, self._next = bytes.fromhex(payload.chunk_root), first
        longest = payload.chunk_bytes + CHUNK_HEADER_BYTES
        self._reader.max_bytes = max(self._limits.message_bytes, longest)
        return data

    def done(self) -> bytes:
        """The `Done` after `Finished`, so that the other side knows."""
        return self._send(Done())

    def _take(self, message: Message) -> tuple[PullEvent, ...]:
        match message:
            case Offer():
                return self._take_offer(message)
            case Missing():
                if message.env != self._env:
                    raise SessionRefused("missing is said of another artifact than asked for")
                return (NotHeld(),)
            case Busy():
                return (TryLater(retry_ms=message.retry_ms),)
            case Digests():
                return self._take_digests(message)
            case Chunk():
                return self._take_chunk(message)
            case _:
                return ()

    def _take_offer(self, offer: Offer) -> tuple[PullEvent, ...]:
        if sha256(offer.envelope) != self._env:
            raise ManifestRefused("the offered envelope is not the one that was asked for")
        self._offered = (offer.size, offer.chunks)
        return (
            OfferReceived(
                envelope=offer.envelope,
                proof=offer.proof,
                knowledge=offer.knowledge,
                size=offer.size,
                chunks=offer.chunks,
            ),
        )

    def _check_payload(self, payload: Payload, count: int) -> None:
        if payload.chunk_bytes > self._limits.chunk_bytes:
            raise LimitExceeded(f"chunks of {payload.chunk_bytes} bytes")
        if self._offered != (payload.size, count):
            size, chunks = self._offered
            raise ManifestRefused(
                f"the offer says {size} bytes in {chunks} chunks, "
                f"the manifest {payload.size} in {count}"
            )

    def _take_digests(self, page: Digests) -> tuple[PullEvent, ...]:
        listed = len(self._digests) // DIGEST_BYTES
        if page.first != listed:
            raise ManifestRefused(f"digests from {page.first}; wanted them from {listed}")
        if len(page.digests) != DIGEST_BYTES * min(PAGE_DIGESTS, self._count - listed):
            raise ManifestRefused(f"{len(page.digests)} bytes of digests from {listed}")
        self._digests += page.digests
        if len(self._digests) < DIGEST_BYTES * self._count:
            return ()
        if chunk_root([self._digest(index) for index in range(self._count)]) != self._root:
            raise ManifestRefused("the chunk digests do not lead to the root in the manifest")
        self._step(Direction.REACH, "listed")
        return self._finished()

    def _take_chunk(self, chunk: Chunk) -> tuple[PullEvent, ...]:
        index, data = chunk.index, memoryview(chunk.data)
        if self._next == self._count:
            raise ManifestRefused(f"chunk {index} after the last of {self._count}")
        if index != self._next:
            raise ManifestRefused(f"chunk {index}; wanted chunk {self._next}")
        offset = index * self._chunk_bytes
        length = min(self._chunk_bytes, self._size - offset)
        if len(data) != length:
            raise ManifestRefused(f"chunk {index} has {len(data)} bytes; wanted {length}")
        if sha256(data) != self._digest(index):
            raise ManifestRefused(f"chunk {index} does not have its digest")
        self._next += 1
        return (ChunkVerified(index=index, offset=offset, data=data), *self._finished())

    def _digest(self, index: int) -> Digest:
        return bytes(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def _finished(self) -> tuple[PullEvent, ...]:
        if self._next < self._count:
            return ()
        self._step(Direction.REACH, "moved")
        return (Finished(),)


class Serve(Conversation[State, ServeEvent]):
    """Answers one peer that asks for an artifact."""

    def __init__(self, *, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__(
            SERVE, start=State.START, refused=State.REFUSED, left=State.LEFT, limits=limits
        )
        self._env = b""
        self._size = 0
        self._chunk_bytes = 0
        self._count = 0
        self._next = 0

    @property
    def next_chunk(self) -> int | None:
        """The index of the chunk to send now; None when it is not the time, or none is left."""
        return self._next if self._state is State.MOVING else None

    def missing(self) -> bytes:
        """The answer to `Wanted` when we do not hold the artifact."""
        return self._send(Missing(env=self._env))

    def busy(self, retry_ms: int) -> bytes:
        """The answer to `Wanted` when they should ask again in `retry_ms` milliseconds."""
        return self._send(Busy(retry_ms=retry_ms))

    def offer(
        self, envelope: bytes, proof: bytes, knowledge: bytes = b"", *, size: int, chunk_bytes: int
    ) -> bytes:
        """The answer to `Wanted` when we hold the artifact; figures as in its manifest.

        Raises `LocalProtocolError` out of turn, on another envelope than the wanted one, and
        on an offer that would be refused.
        """
        if self._state is State.ASKING and sha256(envelope) != self._env:
            raise LocalProtocolError("this envelope is not the one that is wanted")
        count = chunk_count(size, chunk_bytes)
        data = self._send(
            Offer(envelope=envelope, proof=proof, knowledge=knowledge, size=size, chunks=count)
        )
        self._size, self._chunk_bytes, self._count = size, chunk_bytes, count
        return data

    def listing(self, digests: Sequence[Digest]) -> bytes:
        """All pages of chunk digests, after `Accepted`: 32 bytes for each chunk."""
        if self._state is State.LISTING and len(digests) != self._count:
            raise LocalProtocolError(f"{len(digests)} digests of {self._count} chunks")
        pages = []
        for first in range(0, max(1, len(digests)), PAGE_DIGESTS):
            page = b"".join(digests[first : first + PAGE_DIGESTS])
            pages.append(self._send(Digests(first=first, digests=page)))
        self._step(Direction.REACH, "listed")
        self._finish()
        return b"".join(pages)

    def chunk(self, data: bytes | memoryview) -> bytes:
        """The next chunk as one frame, to be written in one piece."""
        if self._state is State.MOVING:
            left = self._size - self._next * self._chunk_bytes
            if len(data) != min(self._chunk_bytes, left):
                raise LocalProtocolError(f"chunk {self._next} of {len(data)} bytes")
        frame = self._send(Chunk(index=self._next, data=data))
        self._next += 1
        self._finish()
        return frame

    def _take(self, message: Message) -> tuple[ServeEvent, ...]:
        match message:
            case Want():
                self._env = message.env
                return (Wanted(env=message.env),)
            case Accept():
                if message.first > self._count:
                    raise SessionRefused(f"chunk {message.first} of {self._count} accepted")
                self._next = message.first
                return (Accepted(first=message.first),)
            case Done():
                return (Delivered(),)
            case _:
                return ()

    def _finish(self) -> None:
        if self._next == self._count:
            self._step(Direction.REACH, "moved")
