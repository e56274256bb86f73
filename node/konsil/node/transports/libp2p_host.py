"""A libp2p host that admits members only, notices silence and survives cancelled writers.

py-libp2p 0.8.1 offers plaintext by default, believes addresses that peers claim for
themselves, corrupts a connection whose writer is cancelled and never misses a silent peer.
The subclasses here override single methods of exactly that version.

Invariants: only Noise, yamux and TCP; only members pass the handshake; a frame is written
whole or its connection is closed; peers cannot put an address into our address book.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.host.exceptions import StreamFailure
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError, IOException
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    HEADER_SIZE,
    TYPE_DATA,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    Yamux,
    YamuxStream,
)
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.transport.upgrader import TransportUpgrader

from konsil.node.transports.libp2p_noise import MemberNoise, MemberSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from libp2p.abc import IMuxedConn, INetConn, INetStream, ISecureConn
    from libp2p.peer.envelope import Envelope

    from konsil.node.transports.libp2p_guard import Guard
    from konsil.node.transports.libp2p_tcp import MemberTcp, Socket

CONNECTIONS = 256
"""Connections of one host, half-open ones included; below the usual limit of descriptors."""
NEGOTIATE_S = 10
"""One negotiation of security, muxer or stream protocol."""
NEGOTIATE_BYTES = 4096
"""What a peer may say while a stream's protocol is negotiated."""
BUFFERED_BYTES = 64 * 1024 * 1024
"""Unread bytes on one connection; only a peer that ignores flow control gets there."""
CREDIT_BYTES = 128 * 1024
"""Receive credit is returned in portions of half the initial window, not for every read."""
WINDOW_BYTES = 4 * 1024 * 1024
"""Largest receive window of a stream; libp2p would let each grow to 16 MiB of unread bytes."""
BODY_S = 60.0
"""How long the rest of a frame may take."""
GOODBYE_S = 0.5
"""How long a connection may take to close politely."""
FIRST_PING_S = 0.5
"""The first ping measures the round trip, on which libp2p's window growth depends."""


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """When a silent connection is given up: after two pings without any byte in answer."""

    interval_s: float = 15.0
    timeout_s: float = 5.0


class LiveYamux(Yamux):
    """Yamux that pings, writes whole frames, batches credit and bounds what it buffers."""

    def __init__(
        self,
        secured_conn: ISecureConn,
        peer_id: ID,
        *,
        wire: Socket,
        liveness: Liveness,
        guard: Guard,
    ) -> None:
        super().__init__(secured_conn, peer_id)
        self.wire = wire
        self._liveness = liveness
        self._guard = guard
        self._withheld: dict[int, int] = {}
        self._doubted = trio.Event()

    def doubt(self) -> None:
        """Ping now: the peer opened another connection, so this one may be dead."""
        self._doubted.set()

    async def start(self) -> None:
        """Run until closed; an exception closes this connection and nothing else."""
        peer = str(self.peer_id)
        if not await self._guard.contain("connection", peer, super().start):
            await self._guard.contain("connection", peer, self._cleanup_on_error)

    async def _write_frame(self, data: bytes) -> None:
        """Write one frame whole: half a frame, or a skipped nonce, would ruin the connection."""
        if len(data) == HEADER_SIZE and data[1] == TYPE_WINDOW_UPDATE and not any(data[2:4]):
            data = self._credit(data)
        if not data:
            await trio.lowlevel.checkpoint()
            return
        async with self._write_lock:
            with trio.CancelScope(shield=True):
                await self.secured_conn.write(data)

    def _credit(self, update: bytes) -> bytes:
        """The window update to send now, empty while less than `CREDIT_BYTES` are due."""
        _, _, _, stream, increment = struct.unpack(YAMUX_HEADER_FORMAT, update)
        due = self._withheld.pop(stream, 0) + increment - self._trim(stream, increment)
        if due >= CREDIT_BYTES:
            return struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_WINDOW_UPDATE, 0, stream, due)
        self._withheld = {open_: n for open_, n in self._withheld.items() if open_ in self.streams}
        self._withheld[stream] = due
        return b""

    def _trim(self, stream_id: int, increment: int) -> int:
        """Take back what libp2p just let a window grow beyond `WINDOW_BYTES`; how much it was."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.target_recv_window <= WINDOW_BYTES:
            return 0
        excess = min(stream.target_recv_window - WINDOW_BYTES, increment)
        stream.target_recv_window = WINDOW_BYTES
        stream.recv_window -= excess
        return excess

    async def write_data(self, stream: YamuxStream, data: memoryview) -> None:
        """Write `data`, for which the peer's window has room, as one frame of `stream`.

        libp2p would cut it into frames of 64 KiB and take three locks for each.
        """
        stream.send_window -= len(data)
        head = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, stream.stream_id, len(data))
        await self._write_frame(b"".join((head, data)))

    async def _read_data_body(self, length: int) -> bytes:
        """Read the body of a data frame, unless the peer overfills our buffers.

        A failure here loses the whole connection; libp2p would tell the stream's reader that
        its peer had come to a clean end.
        """
        try:
            if length + sum(map(len, self.stream_buffers.values())) > BUFFERED_BYTES:
                raise ConnectionClosedError("the peer ignores flow control")
            with trio.fail_after(BODY_S):
                body = await self.secured_conn.read(length)
            if len(body) < length:
                raise ConnectionClosedError("the connection ended inside a frame")
            return body
        except Exception:
            await self._cleanup_on_error()
            raise

    async def _measure_rtt_loop(self) -> None:
        """Ping while the connection lives; close its socket after two misses.

        Any byte received counts as an answer: behind a bulk transfer a pong comes late.
        """
        misses = 0
        pause = min(FIRST_PING_S, self._liveness.interval_s)
        async with trio.open_nursery() as nursery:
            while misses < 2:
                with trio.move_on_after(pause):
                    await self._doubted.wait()
                self._doubted = trio.Event()
                self._ping_event = trio.Event()
                heard = self.wire.received
                nursery.start_soon(self._contained_ping)
                with trio.move_on_after(self._liveness.timeout_s):
                    await self._ping_event.wait()
                alive = self._ping_event.is_set() or self.wire.received > heard
                misses = 0 if alive else misses + 1
                pause = self._liveness.interval_s if alive else 0.0
            await self.wire.close()

    async def _contained_ping(self) -> None:
        gone = self.wire.closed.is_set
        await self._guard.contain("ping", str(self.peer_id), self._ping, expected=gone)

    async def _ping(self) -> None:
        self._ping_id += 1
        header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id)
        await self._write_frame(header)
        self._ping_sent_time = trio.current_time()


class LiveMuxing(MuxerMultistream):
    """Negotiates yamux and builds ours; libp2p would build its own whatever class it is given."""

    def __init__(self, liveness: Liveness, guard: Guard) -> None:
        super().__init__({TProtocol(YAMUX): LiveYamux}, negotiate_timeout=NEGOTIATE_S)
        self._liveness = liveness
        self._guard = guard

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """The muxed connection on top of a secured one."""
        protocol, _ = await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        if not isinstance(conn, MemberSession):
            raise HandshakeFailure("a connection that did not pass the check of membership")
        muxed = LiveYamux(conn, peer_id, wire=conn.wire, liveness=self._liveness, guard=self._guard)
        return self._annotate_connection(muxed, conn, protocol)


class ForgetfulPeerStore(PeerStore):
    """An address book in which peers cannot write; libp2p's rejects messages after clock steps."""

    def consume_peer_record(self, envelope: Envelope, ttl: int) -> bool:
        """Accept the record, whose signature libp2p has checked, and forget it."""
        return True


class Frugal(ReadWriteCloser):
    """A stream on which the peer may say `NEGOTIATE_BYTES` and no more."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._left = NEGOTIATE_BYTES

    async def read(self, n: int | None = None) -> bytes:
        """At most `n` bytes."""
        data = await self._stream.read(self._left if n is None else min(n, self._left))
        self._left -= len(data)
        if self._left <= 0:
            raise IOException("the peer talks too much before choosing a protocol")
        return data

    async def write(self, data: bytes) -> None:
        """Write `data`."""
        await self._stream.write(data)

    async def close(self) -> None:
        """Close the stream."""
        await self._stream.close()

    def get_remote_address(self) -> tuple[str, int] | None:
        """The other side's host and port."""
        return self._stream.get_remote_address()


class NoAutoConnector(AutoConnector):
    """Dials nobody: which connections to hold is the daemon's decision."""

    async def maybe_connect(self) -> None:
        """Do nothing, instead of dialling half of `CONNECTIONS` from the address book."""


class QuietHost(BasicHost):
    """A host that answers "identify" but neither asks nor pushes, and announces no address."""

    def __init__(self, network: Swarm) -> None:
        super().__init__(
            network,
            negotiate_timeout=NEGOTIATE_S,
            announce_addrs=[],
            disable_identify_address_discovery=True,
        )
        self.remove_stream_handler(ID_PUSH)

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """Never ask: libp2p would do so in a task that no nursery contains."""

    async def _push_identify_to_all_peers(self) -> None:
        """Never push: there is nothing to tell."""

    async def handle_stream(self, net_stream: INetStream) -> None:
        """Negotiate an incoming stream's protocol within bounds, then run its handler."""
        protocol, handler = await self.multiselect.negotiate(
            MultiselectCommunicator(Frugal(net_stream)), NEGOTIATE_S
        )
        if protocol is None or handler is None:
            raise StreamFailure("the peer chose no protocol of ours")
        net_stream.set_protocol(protocol)
        await handler(net_stream)

    async def open_on(self, conn: INetConn, protocol: str) -> INetStream:
        """Open a stream on this very connection; raises libp2p's errors."""
        stream = await conn.new_stream()
        try:
            chosen = await self.multiselect_client.select_one_of(
                [TProtocol(protocol)], MultiselectCommunicator(Frugal(stream)), NEGOTIATE_S
            )
        except BaseException:
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        stream.set_protocol(chosen)
        return stream


def build_host(
    key_seed: bytes,
    tcp: MemberTcp,
    *,
    admit: Callable[[str], str],
    refused: Callable[[str, str], None],
    liveness: Liveness,
    guard: Guard,
) -> tuple[Swarm, QuietHost]:
    """A swarm and its host for the Ed25519 key of `key_seed` (32 bytes).

    `admit` says why a peer may not connect (empty: it may), `refused` hears of those.
    """
    key_pair = create_new_key_pair(key_seed)
    own = ID.from_pubkey(key_pair.public_key)
    store = ForgetfulPeerStore()
    store.add_key_pair(own, key_pair)
    upgrader = TransportUpgrader({NOISE: MemberNoise(key_pair, admit, refused)}, {}, NEGOTIATE_S)
    upgrader.muxer_multistream = LiveMuxing(liveness, guard)
    config = ConnectionConfig(
        max_connections=CONNECTIONS,
        min_connections=0,
        low_watermark=0,
        high_watermark=CONNECTIONS,
    )
    swarm = Swarm(
        own,
        store,
        upgrader,
        [tcp],
        retry_config=RetryConfig(max_retries=0),
        connection_config=config,
    )
    swarm.auto_connector = NoAutoConnector(swarm)
    return swarm, QuietHost(swarm)


async def hang_up(conn: INetConn) -> None:
    """Close a connection politely, and within `GOODBYE_S` in any case."""
    done = trio.Event()

    async def goodbye() -> None:
        await conn.close()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(goodbye)
        with trio.move_on_after(GOODBYE_S):
            await done.wait()
        if isinstance(conn.muxed_conn, LiveYamux):
            await conn.muxed_conn.wire.close()  # frees a goodbye that waits in a full socket
