"""One libp2p host with its gossip, from construction to goodbye.

Everything a crash takes down and a restart builds anew lives in a `Session`; what outlives it
(listening sockets, who is connected, counters, channels) is handed in as `Wiring`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
from libp2p.custom_types import TProtocol
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from konsil.node.transports.libp2p_gossip import MemberPubsub, OneTopicGossip
from konsil.node.transports.libp2p_guard import Guard, StreamGuard
from konsil.node.transports.libp2p_host import Liveness, QuietHost, build_host, hang_up
from konsil.node.transports.libp2p_tcp import MemberTcp, Meter

if TYPE_CHECKING:
    from libp2p.abc import INetConn, INetStream
    from libp2p.network.swarm import Swarm

    from konsil.node.transports.libp2p_presence import Presence

STOP_S = 1.0
"""Saying goodbye to everybody when stopping."""

Doors = Mapping[str, trio.SocketListener]


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What a session is built from and connected to."""

    key_seed: bytes
    topic: str
    protocols: tuple[str, ...]
    message_bytes: int
    liveness: Liveness
    guard: Guard
    meter: Meter
    presence: Presence
    members: Callable[[], frozenset[str]]
    first_number: Callable[[], int]
    """The number of the next gossip message; higher than any used before a restart."""
    admit: Callable[[str], str]
    """Why an authenticated peer may not connect; empty when it may."""
    refused: Callable[[str, str], None]
    deliver: Callable[[str, bytes], None]
    receive: Callable[[Session, INetStream], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One running host."""

    nursery: trio.Nursery
    tcp: MemberTcp
    swarm: Swarm
    host: QuietHost
    router: OneTopicGossip
    pubsub: MemberPubsub


def build(wiring: Wiring, nursery: trio.Nursery, doors: Doors) -> Session:
    """A host and its gossip, guarded and wired; nothing runs yet."""
    tcp = MemberTcp(nursery, doors, wiring.meter, wiring.guard)
    swarm, host = build_host(
        wiring.key_seed,
        tcp,
        admit=wiring.admit,
        refused=wiring.refused,
        liveness=wiring.liveness,
        guard=wiring.guard,
    )
    router = OneTopicGossip(wiring.guard, wiring.topic)
    pubsub = MemberPubsub(
        host,
        router,
        topic=wiring.topic,
        members=wiring.members,
        message_bytes=wiring.message_bytes,
        first_number=wiring.first_number(),
        deliver=wiring.deliver,
        guard=wiring.guard,
    )
    session = Session(
        nursery=nursery, tcp=tcp, swarm=swarm, host=host, router=router, pubsub=pubsub
    )
    for protocol in wiring.protocols:
        host.set_stream_handler(TProtocol(protocol), partial(wiring.receive, session))
    swarm.register_notifee(wiring.presence)
    swarm.set_stream_handler(StreamGuard(wiring.guard, host.handle_stream))
    return session


async def serve(
    wiring: Wiring, doors: Doors, opened: Callable[[Session], None], closed: Callable[[], None]
) -> None:
    """Run a new session until cancelled; then say goodbye, within `STOP_S`.

    `opened` hears when it is ready, `closed` when it ends. Raises whatever crashed it.
    """
    stop = trio.Event()

    async def watch() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stop.set()

    async with trio.open_nursery() as outer:
        outer.start_soon(watch)
        with trio.CancelScope(shield=True):  # libp2p must outlive the goodbye
            async with trio.open_nursery() as nursery:
                session = build(wiring, nursery, doors)
                try:
                    await _live(session, wiring, doors, stop, opened)
                finally:
                    closed()
                    session.pubsub.seen_messages.stop()
                    wiring.presence.clear()
                    with trio.CancelScope(shield=True):
                        await session.tcp.close_all()
                nursery.cancel_scope.cancel()
        outer.cancel_scope.cancel()


async def _live(
    session: Session,
    wiring: Wiring,
    doors: Doors,
    stop: trio.Event,
    opened: Callable[[Session], None],
) -> None:
    async with (
        session.host.run(listen_addrs=[Multiaddr(address) for address in doors]),
        background_trio_service(session.router),
        background_trio_service(session.pubsub),
    ):
        await session.pubsub.wait_until_ready()
        await session.pubsub.subscribe(wiring.topic)
        opened(session)
        await stop.wait()
        with trio.move_on_after(STOP_S):
            await hang_up_all(wiring.guard, wiring.presence.connections())
            await session.host.close()


async def hang_up_all(guard: Guard, conns: Sequence[INetConn]) -> None:
    """Close connections, all at once."""
    async with trio.open_nursery() as nursery:
        for conn in conns:
            nursery.start_soon(guard.contain, "hang up", "", partial(hang_up, conn))
