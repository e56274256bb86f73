"""Who is connected: libp2p's connections, folded into one "up" and one "down" per peer.

Two members that dial each other at once have two connections, and a member that comes back
after a power cut has a live and a dead one. Both count as one presence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from libp2p.abc import INetConn, INetStream, INetwork, INotifee
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.rcmgr import Direction

from konsil.node.transports.libp2p_host import LiveYamux
from konsil.node.transports.transport import PeerDown, PeerUp, TransportEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from multiaddr import Multiaddr

CONNECTIONS_PER_PEER = 4
"""Live connections of one member; one is normal, two follow a simultaneous dial."""


class Presence(INotifee):
    """The live connections of each peer; `tell` hears of peers, `lost` of a spare connection."""

    def __init__(
        self, tell: Callable[[TransportEvent], None], lost: Callable[[INetConn], None]
    ) -> None:
        self._tell = tell
        self._lost = lost
        self._live: dict[str, list[INetConn]] = {}

    def peers(self) -> frozenset[str]:
        """The peers that are connected now."""
        return frozenset(self._live)

    def crowded(self, peer: str) -> bool:
        """Whether `peer` has as many connections as one peer may."""
        return len(self._live.get(peer, ())) >= CONNECTIONS_PER_PEER

    def connections(self, peer: str | None = None) -> list[INetConn]:
        """The live connections of one peer, or of all, the newest of a peer last."""
        if peer is not None:
            return list(self._live.get(peer, ()))
        return [conn for conns in self._live.values() for conn in conns]

    def clear(self) -> None:
        """Everybody is gone: the host stopped or crashed."""
        gone, self._live = self._live, {}
        for peer in gone:
            self._tell(PeerDown(peer=peer))

    async def connected(self, network: INetwork, conn: INetConn) -> None:
        """A connection is ready for streams."""
        if conn.is_closed:
            return
        peer = str(conn.muxed_conn.peer_id)
        conns = self._live.setdefault(peer, [])
        for older in conns:
            if isinstance(older.muxed_conn, LiveYamux):
                older.muxed_conn.doubt()
        conns.append(conn)
        if len(conns) == 1:
            dialled = isinstance(conn, SwarmConn) and conn.direction == Direction.OUTBOUND
            self._tell(PeerUp(peer=peer, dialled=dialled))

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:
        """A connection is closed; libp2p may say so twice, or of one that was never ready."""
        peer = str(conn.muxed_conn.peer_id)
        conns = self._live.get(peer, [])
        if conn not in conns:
            return
        conns.remove(conn)
        if conns:
            self._lost(conn)
        else:
            del self._live[peer]
            self._tell(PeerDown(peer=peer))

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:
        """Nothing to do."""

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:
        """Nothing to do."""
