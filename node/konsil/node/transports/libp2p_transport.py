"""The transport on libp2p: Noise, yamux, TCP and GossipSub, for members only.

The only module through which the rest of konsil reaches libp2p. A host is built from the key
for each session; when something inside it crashes in spite of all guards, everybody hears
`PeerDown`, and a new host is built on the same listening sockets after a pause.

Invariants: `PeerUp` and `PeerDown` alternate for each peer; libp2p never dials on its own;
no wait without a limit.
"""

from __future__ import annotations

import math
import random
import time
from traceback import format_exception
from typing import TYPE_CHECKING

import structlog
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID

from konsil.node.transports.address import endpoint
from konsil.node.transports.libp2p_guard import Guard
from konsil.node.transports.libp2p_host import Liveness
from konsil.node.transports.libp2p_presence import Presence
from konsil.node.transports.libp2p_session import Session, Wiring, hang_up_all, serve
from konsil.node.transports.libp2p_stream import Libp2pStream
from konsil.node.transports.libp2p_tcp import Meter, bind, reason_of, to_peer
from konsil.node.transports.transport import (
    PROTOCOLS,
    GossipMessage,
    IncomingStream,
    Refused,
    Tap,
    TransportEvent,
)
from konsil.protocol.errors import ConfigError, LocalProtocolError, UnreachableError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from libp2p.abc import INetConn, INetStream

    from konsil.node.log import Log

DIAL_S = 15.0
"""One address of a peer: connect, handshake, muxer."""
OPEN_S = 10.0
"""Opening one stream."""
RESTART_S = (0.2, 30.0)
"""First and longest pause before a crashed session is rebuilt; doubled each time."""
STEADY_S = 60.0
"""A session that lived this long starts the pauses anew."""
GOSSIP_BUFFER = 1024
"""Gossip messages waiting for the daemon; more are dropped and counted."""
STRANGERS_BUFFER = 256
"""Events waiting for the daemon, above which refusals are no longer reported."""


class Libp2pTransport:
    """A `Transport` on libp2p; `members` are peer ids, ours among them or not.

    `key_seed` is the 32-byte seed of the peer key, `listen` multiaddrs such as
    /ip4/0.0.0.0/tcp/4001 (port 0: any; none: outbound only). A connection is given up after
    two unanswered pings, each `ping_timeout_s` long, that follow `ping_interval_s` of rest.
    """

    def __init__(
        self,
        key_seed: bytes,
        listen: Sequence[str],
        members: Callable[[], frozenset[str]] | frozenset[str],
        topic: str,
        *,
        tap: Tap | None = None,
        protocols: Sequence[str] = PROTOCOLS,
        limits: Limits = DEFAULT_LIMITS,
        ping_interval_s: float = 15.0,
        ping_timeout_s: float = 5.0,
        now_ns: Callable[[], int] = time.time_ns,
        jitter: Callable[[], float] = random.random,
        log: Log | None = None,
    ) -> None:
        for address in listen:
            endpoint(address)
        self._listen = tuple(listen)
        self._members = members if callable(members) else lambda: members
        self._tap = tap
        self._limits = limits
        self._jitter = jitter
        self._log: Log = log or structlog.get_logger("konsil.node.transports.transport")
        self._peer = str(ID.from_pubkey(create_new_key_pair(key_seed).public_key))
        self._guard = Guard(self._log)
        self._meter = Meter()
        self._addresses: tuple[str, ...] = ()
        self._session: Session | None = None
        self._dialling: dict[str, trio.Lock] = {}
        self._tell, self._events = trio.open_memory_channel[TransportEvent](math.inf)
        self._hand, self._incoming = trio.open_memory_channel[IncomingStream](0)
        self._post, self._gossip = trio.open_memory_channel[GossipMessage](GOSSIP_BUFFER)
        self._presence = Presence(self._tell.send_nowait, self._connection_lost)
        self._wiring = Wiring(
            key_seed=key_seed,
            topic=topic,
            protocols=tuple(protocols),
            message_bytes=limits.announcement_bytes,
            liveness=Liveness(interval_s=ping_interval_s, timeout_s=ping_timeout_s),
            guard=self._guard,
            meter=self._meter,
            presence=self._presence,
            members=self._members,
            first_number=now_ns,
            admit=self._admit,
            refused=self._report_refusal,
            deliver=self._deliver,
            receive=self._receive,
        )

    @property
    def peer(self) -> str:
        """Our own libp2p peer id."""
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        """The multiaddrs on which we listen now; empty for an outbound-only node."""
        return self._addresses

    @property
    def bytes_written(self) -> int:
        """Bytes written to sockets since the start, encryption and framing included."""
        return self._meter.written

    @property
    def bytes_read(self) -> int:
        """Bytes read from sockets since the start, encryption and framing included."""
        return self._meter.read

    @property
    def contained(self) -> dict[tuple[str, str], int]:
        """How often an exception was contained, by place and peer."""
        return dict(self._guard.counts)

    @property
    def events(self) -> trio.MemoryReceiveChannel[TransportEvent]:
        """Connections that came and went, and strangers refused."""
        return self._events

    @property
    def incoming(self) -> trio.MemoryReceiveChannel[IncomingStream]:
        """Streams that members opened to us."""
        return self._incoming

    @property
    def gossip(self) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Messages that arrived on the topic, ours not among them."""
        return self._gossip

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and connect until cancelled; rebuild the host after a crash.

        Raises `UnreachableError` at the start when a listen address cannot be bound.
        """
        doors = await bind(self._listen)
        self._addresses = tuple(doors)
        pause, longest = RESTART_S
        was_ready = False

        def opened(session: Session) -> None:
            nonlocal was_ready
            self._session = session
            if not was_ready:
                was_ready = True
                task_status.started()

        def closed() -> None:
            self._session = None

        try:
            while True:
                began = trio.current_time()
                try:
                    await serve(self._wiring, doors, opened, closed)
                except* Exception as crash:
                    if not was_ready:
                        raise
                    self._guard.note("session", "", crash)
                    self._log.error("transport.crashed", trace=format_exception(crash))
                if trio.current_time() - began > STEADY_S:
                    pause = RESTART_S[0]
                await trio.sleep(pause * (0.5 + self._jitter()))
                pause = min(2 * pause, longest)
        finally:
            self._addresses = ()
            for door in doors.values():
                door.socket.close()

    def _admit(self, peer: str) -> str:
        """Why the authenticated `peer` may not connect; empty when it may."""
        if peer not in self._members():
            return "not a member"
        return "too many connections" if self._presence.crowded(peer) else ""

    def _report_refusal(self, peer: str, reason: str) -> None:
        if self._tell.statistics().current_buffer_used < STRANGERS_BUFFER:
            self._tell.send_nowait(Refused(peer=peer, reason=reason))

    def _deliver(self, author: str, data: bytes) -> None:
        if self._tap:
            self._tap("in", data)
        try:
            self._post.send_nowait(GossipMessage(author=author, data=data))
        except trio.WouldBlock as error:
            self._guard.note("gossip buffer", author, error)

    def _connection_lost(self, conn: INetConn) -> None:
        if self._session is not None:
            self._session.pubsub.connection_lost(conn)

    async def _receive(self, session: Session, stream: INetStream) -> None:
        """Hand an incoming stream to the daemon and stay until it is closed."""
        peer = str(stream.muxed_conn.peer_id)
        ours = self._wrap(session, peer, stream)
        protocol = str(stream.get_protocol())
        await self._hand.send(IncomingStream(peer=peer, protocol=protocol, stream=ours))
        await ours.wait_gone()

    def _wrap(self, session: Session, peer: str, stream: INetStream) -> Libp2pStream:
        def spawn(step: Callable[[], Awaitable[None]]) -> None:
            if self._session is session:
                session.nursery.start_soon(self._guard.contain, "close", peer, step)

        return Libp2pStream(stream, spawn, self._tap)

    def connected(self) -> frozenset[str]:
        """The members that are connected now."""
        return self._presence.peers()

    async def dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Connect to a member at the first address that works; a no-op when connected.

        Raises `UnreachableError` naming each address and what went wrong there.
        """
        if peer == self._peer or peer not in self._members():
            raise UnreachableError(f"{peer} is not a member", hint="see [[members]] in node.toml")
        async with self._dialling.setdefault(peer, trio.Lock()):
            failures: list[str] = []
            for address in addresses:
                if peer in self.connected():
                    return
                try:
                    with trio.fail_after(DIAL_S):
                        await self._dial(peer, address)
                except trio.TooSlowError:
                    failures.append(f"{address}: no answer in {DIAL_S:.0f} s")
                except (BaseLibp2pError, ConfigError) as error:
                    failures.append(f"{address}: {reason_of(error)}")
            if peer not in self.connected():
                raise UnreachableError(
                    f"cannot reach {peer}: {'; '.join(failures) or 'no address is known'}",
                    hint="is it running, and does its member list name us?",
                )

    async def _dial(self, peer: str, address: str) -> None:
        session = self._running()
        target = to_peer(address, peer)
        session.tcp.permitted.add(peer)
        try:
            await session.swarm.dial_addr(target, ID.from_base58(peer))
        finally:
            session.tcp.permitted.discard(peer)

    async def disconnect(self, peer: str) -> None:
        """Drop every connection to a member."""
        await hang_up_all(self._guard, self._presence.connections(peer))

    async def open_stream(self, peer: str, protocol: str) -> Libp2pStream:
        """Open a stream to a connected member. Raises `UnreachableError`."""
        session = self._running()
        conns = self._presence.connections(peer)
        if not conns:
            raise UnreachableError(f"{peer} is not connected")
        try:
            with trio.fail_after(OPEN_S):
                stream = await session.host.open_on(conns[-1], protocol)
        except trio.TooSlowError as error:
            raise UnreachableError(f"{peer} did not open {protocol} in {OPEN_S:.0f} s") from error
        except BaseLibp2pError as error:
            raise UnreachableError(f"{peer} refused {protocol}: {reason_of(error)}") from error
        return self._wrap(session, peer, stream)

    async def publish(self, data: bytes) -> None:
        """Gossip a small message to everybody on the consortium's topic.

        Raises `LocalProtocolError` above `Limits.announcement_bytes` and `UnreachableError`
        while the transport does not run.
        """
        if len(data) > self._limits.announcement_bytes:
            raise LocalProtocolError(f"an announcement of {len(data)} bytes is too long")
        session = self._running()
        if self._tap:
            self._tap("out", data)
        await session.pubsub.say(data)

    def _running(self) -> Session:
        if self._session is None:
            raise UnreachableError("the transport does not run", hint="wait for its restart")
        return self._session
