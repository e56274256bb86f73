"""The transport in memory: many members in one process, with cuts, crashes and no sockets.

The same promises as libp2p (it passes the same tests): members only, bounded streams, one
`PeerUp` and one `PeerDown` at a time, gossip that floods along connections and arrives once.
Nothing here sleeps, so it runs under `trio.testing.MockClock`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import trio

from konsil.node.transports.memory_stream import MemoryStream, Pipe
from konsil.node.transports.transport import (
    PROTOCOLS,
    GossipMessage,
    IncomingStream,
    PeerDown,
    PeerUp,
    Refused,
    Tap,
    TransportEvent,
)
from konsil.protocol.errors import LocalProtocolError, UnreachableError
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GOSSIP_BUFFER = 1024
"""Gossip messages waiting for the reader; more are dropped."""
STREAMS_PER_PEER = 64
"""Streams that one member may hold open towards another."""


class Link:
    """The connection of two transports: the streams on it break together."""

    def __init__(self, one: MemoryTransport, other: MemoryTransport) -> None:
        self.ends = (one, other)
        self._pipes: list[Pipe] = []
        self._opened: dict[str, list[MemoryStream]] = {one.peer: [], other.peer: []}

    def open(self, opener: MemoryTransport) -> tuple[MemoryStream, MemoryStream]:
        """A stream's two ends, the opener's first. Raises `UnreachableError` at the bound."""
        mine = [stream for stream in self._opened[opener.peer] if not stream.closed]
        if len(mine) >= STREAMS_PER_PEER:
            raise UnreachableError(f"{STREAMS_PER_PEER} streams are open already")
        other = self.ends[0] if opener is self.ends[1] else self.ends[1]
        there, back = Pipe(), Pipe()
        ours = MemoryStream(there, back, opener.observe)
        theirs = MemoryStream(back, there, other.observe)
        self._opened[opener.peer] = [*mine, theirs]
        self._pipes = [pipe for pipe in self._pipes if not pipe.done] + [there, back]
        return ours, theirs

    def shatter(self) -> None:
        """Lose the connection, at both ends at once."""
        one, other = self.ends
        if one.forget(other.peer) and other.forget(one.peer):
            for pipe in self._pipes:
                pipe.shatter()


class MemoryFabric:
    """The network: who runs, and which pairs cannot reach each other."""

    def __init__(self) -> None:
        self._running: dict[str, MemoryTransport] = {}
        self._cuts: set[frozenset[str]] = set()
        self._arrivals = 0

    def transport(
        self,
        peer: str,
        members: Callable[[], frozenset[str]] | frozenset[str],
        *,
        tap: Tap | None = None,
        protocols: Sequence[str] = PROTOCOLS,
        limits: Limits = DEFAULT_LIMITS,
        reachable: bool = True,
    ) -> MemoryTransport:
        """A transport for `peer`; nobody can dial one that is not `reachable`.

        Its address `/memory/<peer>/<run>` changes with each run; `/memory/<peer>` stays.
        """
        return MemoryTransport(
            self,
            peer,
            members,
            tap=tap,
            protocols=protocols,
            limits=limits,
            reachable=reachable,
        )

    def cut(self, one: str, other: str) -> None:
        """Break the connection of a pair and refuse it until `heal`."""
        self._cuts.add(frozenset({one, other}))
        link = self._running[one].link(other) if one in self._running else None
        if link is not None:
            link.shatter()

    def heal(self, one: str, other: str) -> None:
        """Let a pair reach each other again."""
        self._cuts.discard(frozenset({one, other}))

    def kill(self, peer: str) -> None:
        """End a member without a word: its `run` returns, its neighbours hear `PeerDown`."""
        self._running[peer].die()

    def enter(self, transport: MemoryTransport) -> str:
        """Register a starting transport; its address. Raises `UnreachableError` when taken."""
        if transport.peer in self._running:
            raise UnreachableError(f"cannot listen: {transport.peer} is running already")
        self._running[transport.peer] = transport
        self._arrivals += 1
        return f"/memory/{transport.peer}/{self._arrivals}"

    def leave(self, transport: MemoryTransport) -> None:
        """Forget a transport that stopped."""
        self._running.pop(transport.peer, None)

    def find(self, caller: str, peer: str, addresses: Sequence[str]) -> MemoryTransport:
        """The running `peer` at one of `addresses`. Raises `UnreachableError`."""
        found = self._running.get(peer)
        if found is None or not found.listens_at(addresses):
            raise UnreachableError(f"cannot reach {peer}: nobody listens at {list(addresses)}")
        if frozenset({caller, peer}) in self._cuts:
            raise UnreachableError(f"cannot reach {peer}: the connection is cut")
        return found


class MemoryTransport:
    """A `Transport` on a `MemoryFabric`; made by `MemoryFabric.transport`."""

    def __init__(
        self,
        fabric: MemoryFabric,
        peer: str,
        members: Callable[[], frozenset[str]] | frozenset[str],
        *,
        tap: Tap | None,
        protocols: Sequence[str],
        limits: Limits,
        reachable: bool,
    ) -> None:
        self._fabric = fabric
        self._reachable = reachable
        self._peer = peer
        self._members = members if callable(members) else lambda: members
        self._tap = tap
        self._protocols = frozenset(protocols)
        self._limits = limits
        self._links: dict[str, Link] = {}
        self._address: str | None = None
        self._scope: trio.CancelScope | None = None
        self._bytes = {"out": 0, "in": 0}
        self._tell, self._events = trio.open_memory_channel[TransportEvent](math.inf)
        self._hand, self._incoming = trio.open_memory_channel[IncomingStream](math.inf)
        self._post, self._gossip = trio.open_memory_channel[GossipMessage](GOSSIP_BUFFER)

    @property
    def peer(self) -> str:
        """Our own name on the fabric."""
        return self._peer

    @property
    def addresses(self) -> tuple[str, ...]:
        """Our address while running: /memory/<peer>/<number of the run>."""
        return (self._address,) if self._address and self._reachable else ()

    def listens_at(self, addresses: Sequence[str]) -> bool:
        """Whether a dial to one of `addresses` arrives here."""
        known = {*self.addresses, f"/memory/{self._peer}"} if self._reachable else set()
        return not known.isdisjoint(addresses)

    @property
    def bytes_written(self) -> int:
        """Bytes sent on streams and by gossip."""
        return self._bytes["out"]

    @property
    def bytes_read(self) -> int:
        """Bytes received from streams and by gossip."""
        return self._bytes["in"]

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
        """Messages that arrived, ours not among them."""
        return self._gossip

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled or killed. Raises `UnreachableError` when running already."""
        self._address = self._fabric.enter(self)
        try:
            with trio.CancelScope() as self._scope:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self.die()

    def die(self) -> None:
        """Stop at once."""
        self._fabric.leave(self)
        for link in list(self._links.values()):
            link.shatter()
        self._address = None
        if self._scope is not None:
            self._scope.cancel()

    def link(self, peer: str) -> Link | None:
        """The connection to `peer`, if there is one."""
        return self._links.get(peer)

    def join(self, peer: str, link: Link, *, dialled: bool) -> None:
        """Be connected to `peer`."""
        self._links[peer] = link
        self._tell.send_nowait(PeerUp(peer=peer, dialled=dialled))

    def forget(self, peer: str) -> bool:
        """Be connected to `peer` no longer; False when we were not."""
        if self._links.pop(peer, None) is None:
            return False
        self._tell.send_nowait(PeerDown(peer=peer))
        return True

    def admits(self, peer: str) -> bool:
        """Whether `peer` may connect; a stranger is reported."""
        if peer in self._members():
            return True
        self._tell.send_nowait(Refused(peer=peer, reason="not a member"))
        return False

    def observe(self, direction: Literal["out", "in"], data: bytes) -> None:
        """Count bytes, and show them to the tap."""
        self._bytes[direction] += len(data)
        if self._tap:
            self._tap(direction, data)

    def connected(self) -> frozenset[str]:
        """The members that are connected now."""
        return frozenset(self._links)

    async def dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Connect to a member; a no-op when connected. Raises `UnreachableError`."""
        await trio.lowlevel.checkpoint()
        if peer in self._links:
            return
        if peer == self._peer or peer not in self._members():
            raise UnreachableError(f"{peer} is not a member", hint="see [[members]] in node.toml")
        if self._address is None:
            raise UnreachableError("the transport does not run")
        other = self._fabric.find(self._peer, peer, addresses)
        if not other.admits(self._peer):
            raise UnreachableError(f"cannot reach {peer}: it does not know us")
        link = Link(self, other)
        self.join(peer, link, dialled=True)
        other.join(self._peer, link, dialled=False)

    async def disconnect(self, peer: str) -> None:
        """Drop the connection to a member."""
        await trio.lowlevel.checkpoint()
        link = self._links.get(peer)
        if link is not None:
            link.shatter()

    async def open_stream(self, peer: str, protocol: str) -> MemoryStream:
        """Open a stream to a connected member. Raises `UnreachableError`."""
        await trio.lowlevel.checkpoint()
        link = self._links.get(peer)
        if link is None:
            raise UnreachableError(f"{peer} is not connected")
        other = link.ends[0] if link.ends[1] is self else link.ends[1]
        if not other.speaks(protocol):
            raise UnreachableError(f"{peer} refused {protocol}")
        ours, theirs = link.open(self)
        other.take(IncomingStream(peer=self._peer, protocol=protocol, stream=theirs))
        return ours

    def speaks(self, protocol: str) -> bool:
        """Whether streams of `protocol` may be opened to us."""
        return protocol in self._protocols

    def take(self, incoming: IncomingStream) -> None:
        """Hand a stream that a member opened to whoever reads `incoming`."""
        self._hand.send_nowait(incoming)

    async def publish(self, data: bytes) -> None:
        """Gossip a small message to everybody who can be reached along connections."""
        await trio.lowlevel.checkpoint()
        if len(data) > self._limits.announcement_bytes:
            raise LocalProtocolError(f"an announcement of {len(data)} bytes is too long")
        if self._address is None:
            raise UnreachableError("the transport does not run")
        self.observe("out", data)
        heard = {self._peer}
        frontier = [self]
        while frontier:
            here = frontier.pop()
            for link in here._links.values():
                for end in link.ends:
                    if end.peer not in heard:
                        heard.add(end.peer)
                        frontier.append(end)
                        end.hear(self._peer, data)

    def hear(self, author: str, data: bytes) -> None:
        """Receive a gossiped message, unless too many wait already."""
        if author in self._members():
            self.observe("in", data)
            if self._post.statistics().current_buffer_used < GOSSIP_BUFFER:
                self._post.send_nowait(GossipMessage(author=author, data=data))
