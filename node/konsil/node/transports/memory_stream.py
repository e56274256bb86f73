"""Streams in memory: bounded, half-closable, and breakable from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import trio

PIECE_BYTES = 64 * 1024
"""One piece of a stream."""
PIECES = 16
"""Pieces that a stream holds before its writer waits for the reader."""
Observe = Callable[[Literal["out", "in"], bytes], None]


class Pipe:
    """One direction of a stream: pieces in order, then an end, or a break."""

    def __init__(self) -> None:
        self.broken = False
        self.send, self.receive = trio.open_memory_channel[bytes](PIECES)

    @property
    def done(self) -> bool:
        """Whether both ends have closed it."""
        held = self.send.statistics()
        return held.open_send_channels == 0 and held.open_receive_channels == 0

    def shatter(self) -> None:
        """Break: what is inside is lost, and both ends find out."""
        self.broken = True
        self.send.close()
        self.receive.close()


class MemoryStream:
    """One end of a stream between two members."""

    def __init__(self, outgoing: Pipe, incoming: Pipe, observe: Observe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._observe = observe
        self._held = b""
        self._ended = False
        self._closed = False
        self._sending = trio.Lock()

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._closed

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        """The next bytes; empty at the end. Raises `trio.BrokenResourceError` when broken."""
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if not self._held and not self._ended:
            try:
                self._held = await self._incoming.receive.receive()
            except trio.EndOfChannel:
                if self._incoming.broken:
                    raise trio.BrokenResourceError("the connection was lost") from None
                self._ended = True
            except trio.ClosedResourceError as error:
                raise trio.BrokenResourceError("the connection was lost") from error
            if self._held:
                self._observe("in", self._held)
        data, self._held = self._held[:max_bytes], self._held[max_bytes:]
        return data

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`; raises `trio.BrokenResourceError` when broken."""
        async with self._sending:
            for start in range(0, len(data), PIECE_BYTES):
                piece = bytes(data[start : start + PIECE_BYTES])
                try:
                    await self._outgoing.send.send(piece)
                except trio.ClosedResourceError as error:
                    if self._closed:
                        raise
                    raise trio.BrokenResourceError("the stream was lost or ended") from error
                self._observe("out", piece)

    async def send_eof(self) -> None:
        """Tell the other side that no more bytes follow."""
        async with self._sending:
            if self._outgoing.broken:
                raise trio.BrokenResourceError("the connection was lost")
            self._outgoing.send.close()

    async def aclose(self) -> None:
        """Close both directions; what was sent still arrives. Never raises."""
        self._closed = True
        self._outgoing.send.close()
        self._incoming.receive.close()
        await trio.lowlevel.cancel_shielded_checkpoint()
