"""One question, one answer: how members ask about one another's logs.

A stream carries a frame with the question and a frame with the answer, and then the next; it
stays open between them, because opening one costs more than most answers. Every wait has a
deadline, and what a peer does wrong ends its stream only. Times in seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.protocol.errors import EncodingRefused, UnreachableError
from konsil.protocol.frames import FrameReader, frame

if TYPE_CHECKING:
    from konsil.node.transports.transport import ByteStream, Transport

ANSWER_S = 15.0
IDLE_S = 300.0

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

    async def aclose(self) -> None:
        """Close the stream; a peer that does not listen is not waited for."""
        with trio.move_on_after(1.0):
            await self._stream.aclose()

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


class Lines:
    """Lines to connected peers, one for each peer and protocol, opened when first needed."""

    def __init__(self, transport: Transport, max_bytes: int) -> None:
        self._transport = transport
        self._max_bytes = max_bytes
        self._open: dict[tuple[str, str], Line] = {}
        self._turns: dict[tuple[str, str], trio.Lock] = {}

    async def ask(self, peer: str, protocol: str, question: bytes) -> bytes:
        """The answer of `peer`. Raises one of `BROKEN`, or a `RemoteError`."""
        place = (peer, protocol)
        async with self._turns.setdefault(place, trio.Lock()):
            if place in self._open:
                try:
                    return await self._once(place, question)
                except BROKEN:
                    pass  # it may have been closed while nobody used it: once more, afresh
            stream = await self._transport.open_stream(peer, protocol)
            self._open[place] = Line(stream, self._max_bytes)
            return await self._once(place, question)

    async def _once(self, place: tuple[str, str], question: bytes) -> bytes:
        try:
            return await self._open[place].ask(question)
        except BaseException:
            # Whatever went wrong, what comes next on it may be the answer to this.
            with trio.CancelScope(shield=True):
                await self._open.pop(place).aclose()
            raise
