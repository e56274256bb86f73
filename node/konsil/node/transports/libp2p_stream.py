"""A libp2p stream as a `ByteStream`: honest about its end, patient with a slow reader.

py-libp2p 0.8.1 reports a reset, or a lost connection, as a clean end of the stream, gives up
on a reader that pauses for five seconds, and forgets to tell the other side about a stream
that is simply dropped. Here an end is an end only when the peer said so, a full window waits
as long as the caller does, and closing leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.network.stream.net_stream import NetStream
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.yamux.yamux import HEADER_SIZE, YamuxStream

from konsil.node.transports.libp2p_host import LiveYamux

if TYPE_CHECKING:
    from libp2p.abc import INetStream

    from konsil.node.transports.transport import Tap

READ_BYTES = 1024 * 1024
"""One read from libp2p; it answers every read with work, so small reads are disastrous."""
WRITE_BYTES = 4 * MAX_PLAINTEXT_LENGTH - HEADER_SIZE
"""One frame: with its header it fills whole Noise messages, and others wait only so long."""
LINGER_S = 5.0
"""How long a closed stream waits for the peer's end before it is reset."""
LINGER_BYTES = 64 * 1024
"""What the peer may still send into a stream that we have closed."""
SLOWEST_POLL_S = 0.05
"""libp2p signals no credit; a waiting writer looks at least this often."""

Spawn = Callable[[Callable[[], Awaitable[None]]], None]


class Libp2pStream:
    """One yamux stream to a member. Reads, and separately writes, belong to one task at a time."""

    def __init__(self, stream: INetStream, spawn: Spawn, tap: Tap | None) -> None:
        if not isinstance(stream, NetStream) or not isinstance(stream.muxed_stream, YamuxStream):
            raise TypeError("a libp2p stream on yamux is needed")
        if not isinstance(stream.muxed_stream.conn, LiveYamux):
            raise TypeError("a stream on our own yamux is needed")
        self._gone = trio.Event()
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._yamux = stream.muxed_stream.conn
        self._spawn = spawn
        self._tap = tap
        self._held = b""
        self._at = 0
        self._ended = False
        self._closed = False
        self._sending = trio.Lock()

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        """The next bytes; empty at the end. Raises `trio.BrokenResourceError` when broken."""
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        if self._at == len(self._held) and not self._ended:
            self._held, self._at = await self._read(), 0
            if self._tap and self._held:
                self._tap("in", self._held)
        data = self._held[self._at : self._at + max_bytes]
        self._at += len(data)
        return data

    async def _read(self) -> bytes:
        """Bytes from libp2p; empty, and `_ended` set, when the peer ended the stream."""
        try:
            return await self._stream.read(READ_BYTES)
        except StreamEOF as error:
            lost = self._muxed.conn.event_shutting_down.is_set() or self._muxed.reset_received
            if lost:
                raise trio.BrokenResourceError("the connection or the stream was lost") from error
            self._ended = True
            return b""
        except BaseLibp2pError as error:
            raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`; raises `trio.BrokenResourceError` when broken."""
        if self._tap:
            self._tap("out", data)
        async with self._sending:
            rest = memoryview(data)
            while rest:
                piece = rest[: min(await self._room(), WRITE_BYTES)]
                try:
                    await self._yamux.write_data(self._muxed, piece)
                except BaseLibp2pError as error:
                    raise trio.BrokenResourceError(str(error)) from error
                rest = rest[len(piece) :]

    async def _room(self) -> int:
        """Bytes the peer's window takes now; waits until it takes some."""
        pause = 0.001
        while True:
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed")
            shut = self._muxed.send_closed or self._muxed.closed or self._muxed.reset_received
            if shut or self._muxed.conn.event_shutting_down.is_set():
                raise trio.BrokenResourceError("the connection or the stream was lost")
            if self._muxed.send_window > 0:
                return self._muxed.send_window
            await trio.sleep(pause)
            pause = min(2 * pause, SLOWEST_POLL_S)

    async def send_eof(self) -> None:
        """Tell the other side that no more bytes follow."""
        async with self._sending:
            try:
                await self._stream.close_write()
            except BaseLibp2pError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        """Close both directions; what was sent still arrives. Never raises."""
        if not self._closed:
            self._closed = True
            self._spawn(self._part)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_gone(self) -> None:
        """Wait until this stream was closed, or its connection was."""
        async with trio.open_nursery() as nursery:

            async def watch(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch, self._gone)
            nursery.start_soon(watch, self._muxed.conn.event_closed)

    async def _part(self) -> None:
        """End our side, give the peer a moment to end its own, then make sure."""
        spare = LINGER_BYTES - (len(self._held) - self._at)
        try:
            with trio.move_on_after(LINGER_S):
                await self.send_eof()
                while not self._ended and spare > 0:
                    spare -= len(await self._read())
        except trio.BrokenResourceError:
            pass  # the peer, or the connection, was faster
        finally:
            with trio.CancelScope(shield=True):
                await (self._stream.close() if self._ended else self._stream.reset())
            self._gone.set()
