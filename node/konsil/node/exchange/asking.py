"""One question, one answer, on a stream of its own: how members ask about one another's logs.

A stream carries a frame with the question and a frame with the answer; whoever asked closes it
or asks again. Every wait has a deadline, and what a peer does wrong ends its stream only.
Times in seconds.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from konsil.protocol.errors import EncodingRefused, UnreachableError
from konsil.protocol.frames import FrameReader, frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from konsil.node.transports.transport import ByteStream, Transport

ANSWER_S = 15.0
IDLE_S = 30.0

BROKEN = (
    UnreachableError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    EOFError,
)
"""How a question ends whose other end, or whose way there, is lost."""


class Line:
    """A stream that carries frames, one of ours for one of theirs."""

    def __init__(self, stream: ByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._reader = FrameReader(max_bytes)

    async def ask(self, question: bytes) -> bytes:
        """The answer to a question. Raises one of `BROKEN`, or a `RemoteError`."""
        with trio.fail_after(ANSWER_S):
            await self._stream.send_all(frame(question))
            return await self._next()

    async def question(self) -> bytes:
        """The next question of the other side. Raises as `ask` does."""
        with trio.fail_after(IDLE_S):
            return await self._next()

    async def answer(self, data: bytes) -> None:
        """Send the answer. Raises one of `BROKEN`."""
        with trio.fail_after(ANSWER_S):
            await self._stream.send_all(frame(data))

    async def _next(self) -> bytes:
        while True:
            data = await self._stream.receive_some()
            if not data:
                raise EOFError
            bodies = [bytes(body) for body in self._reader.feed(data)]
            if len(bodies) > 1:
                raise EncodingRefused("more than one message at a time")
            if bodies:
                return bodies[0]


@asynccontextmanager
async def calling(
    transport: Transport, peer: str, protocol: str, max_bytes: int
) -> AsyncIterator[Line]:
    """A line to a connected peer, closed at the end. Raises one of `BROKEN`."""
    stream = await transport.open_stream(peer, protocol)
    try:
        yield Line(stream, max_bytes)
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(1.0):
            await stream.aclose()
