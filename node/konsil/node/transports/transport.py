"""The seam between konsil and whatever carries its bytes.

A transport connects authenticated members, opens streams to them and gossips small
messages. It knows peers (transport identities), never nodes, artifacts or trust. Two
implementations exist and pass the same tests: libp2p, and an in-memory one.

Invariants: only peers in the member list are ever connected; `PeerUp` and `PeerDown`
alternate for each peer; a misbehaving peer can lose its own connection and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    import trio

SESSION_PROTOCOL = "/konsil/session/1"
ARTIFACT_PROTOCOL = "/konsil/artifact/1"
WITNESS_PROTOCOL = "/konsil/witness/1"
MIRROR_PROTOCOL = "/konsil/mirror/1"
PROTOCOLS = (SESSION_PROTOCOL, ARTIFACT_PROTOCOL, WITNESS_PROTOCOL, MIRROR_PROTOCOL)
"""Every kind of stream that a member may open to us."""

Tap = Callable[[Literal["out", "in"], bytes], None]
"""Sees every byte that crosses the boundary, before encryption; tests search it for canaries."""


class PeerUp(msgspec.Struct, frozen=True, kw_only=True):
    """A member is connected."""

    peer: str
    dialled: bool
    """True when this side opened the connection."""


class PeerDown(msgspec.Struct, frozen=True, kw_only=True):
    """A member's last connection is gone."""

    peer: str


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A stranger tried to connect and was refused in the handshake."""

    peer: str
    reason: str


TransportEvent = PeerUp | PeerDown | Refused


class ByteStream(Protocol):
    """One ordered stream of bytes to a member; half-closable."""

    async def receive_some(self, max_bytes: int = 65536) -> bytes:
        """The next bytes; empty at the end. Raises `trio.BrokenResourceError` when broken."""
        ...

    async def send_all(self, data: bytes) -> None:
        """Send all of `data`; raises `trio.BrokenResourceError` when broken."""
        ...

    async def send_eof(self) -> None:
        """Tell the other side that no more bytes follow."""
        ...

    async def aclose(self) -> None:
        """Close both directions; never raises."""
        ...


class IncomingStream(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that a member opened to us."""

    peer: str
    protocol: str
    stream: ByteStream


class GossipMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One gossiped message, as received; its author is what the transport authenticated."""

    author: str
    data: bytes


class Transport(Protocol):
    """Connects members. `run` is the service; everything else works while it runs."""

    @property
    def peer(self) -> str:
        """Our own transport identity (libp2p peer id)."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """The multiaddrs on which we listen now; empty for an outbound-only node."""
        ...

    @property
    def bytes_written(self) -> int:
        """Bytes written to sockets since the start."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes read from sockets since the start."""
        ...

    @property
    def events(self) -> trio.MemoryReceiveChannel[TransportEvent]:
        """Connections that came and went, and strangers refused."""
        ...

    @property
    def incoming(self) -> trio.MemoryReceiveChannel[IncomingStream]:
        """Streams that members opened to us."""
        ...

    @property
    def gossip(self) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Messages that arrived on the topic, ours not among them."""
        ...

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen and connect until cancelled; restarts its own insides after a crash.

        Raises `UnreachableError` at the start when a listen address cannot be bound.
        """
        ...

    def connected(self) -> frozenset[str]:
        """The members that are connected now."""
        ...

    async def dial(self, peer: str, addresses: Sequence[str]) -> None:
        """Connect to a member; a no-op when connected. Raises `UnreachableError`."""
        ...

    async def disconnect(self, peer: str) -> None:
        """Drop every connection to a member."""
        ...

    async def open_stream(self, peer: str, protocol: str) -> ByteStream:
        """Open a stream to a connected member. Raises `UnreachableError`."""
        ...

    async def publish(self, data: bytes) -> None:
        """Gossip a small message to everybody on the consortium's topic."""
        ...
