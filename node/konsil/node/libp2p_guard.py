"""Where exceptions caused by a peer's bytes stop, and GossipSub behind that wall.

Stock py-libp2p 0.8.1 lets one malformed gossip message, or one raising handler, end the whole
host. Every such entry point runs inside `Guard.contain`. The gossip classes also hold what
GossipSub leaves open: only members publish, on one topic, small messages, at a bounded rate,
and nobody makes us dial by "peer exchange". They override single methods of exactly that
version; tests/attacks fails when an upgrade moves them.

Invariants: `Cancelled` always passes; nothing here decides about trust.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import ValidationError
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer.yamux.yamux import Yamux

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from libp2p.abc import IHost, INetConn, INetStream
    from libp2p.pubsub.pb import rpc_pb2

    from konsil.node.log import Log

STREAMS_PER_PEER = 64
"""Streams that one member may hold open towards us."""
CONTROL_ENTRIES = 256
"""Entries of one gossip control message; an honest one carries a handful."""
AUTHOR_RATE_PER_S = 10.0
"""Gossip messages of one author per second, in the long run."""
AUTHOR_BURST = 100.0
"""Gossip messages of one author at once."""
QUEUE_ROOM = 16
"""Messages that may wait for a neighbour before our own publishing pauses (libp2p drops at 32)."""
PUBLISH_WAIT_S = 0.01
"""One such pause."""
PUBLISH_WAITS = 100
"""Most such pauses in a row: a neighbour that stopped reading must not stop everybody."""


class Guard:
    """Contains and counts exceptions; logs each kind less and less often (1, 2, 4, 8, …)."""

    def __init__(self, log: Log) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._log = log

    def note(self, where: str, peer: str, error: BaseException) -> None:
        """Count an exception at a place and for a peer (empty: unknown), and log it."""
        self.counts[where, peer] += 1
        count = self.counts[where, peer]
        if count & (count - 1) == 0:
            self._log.warning(
                "transport.contained", where=where, peer=peer, count=count, error=repr(error)
            )

    async def contain(
        self,
        where: str,
        peer: str,
        step: Callable[[], Awaitable[None]],
        *,
        expected: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Run `step`; False when it raised. Cancellation passes.

        Not counted when `expected` says that anything may raise now: the connection is gone.
        """
        try:
            await step()
        except Exception as error:  # noqa: BLE001  # the boundary towards other people's bytes
            if not expected():
                self.note(where, peer, error)
            return False
        return True


def is_lost(stream: INetStream) -> bool:
    """Whether the connection below a stream is closing or closed."""
    muxed = stream.muxed_conn
    return muxed.is_closed or (isinstance(muxed, Yamux) and muxed.event_shutting_down.is_set())


class StreamGuard:
    """Runs every incoming stream contained, and bounds how many one peer holds open."""

    def __init__(self, guard: Guard, inner: Callable[[INetStream], Awaitable[None]]) -> None:
        self._guard = guard
        self._inner = inner
        self._open: Counter[str] = Counter()

    async def __call__(self, stream: INetStream) -> None:
        """Handle one stream; reset it when its handler raises or its peer has too many."""
        peer = str(stream.muxed_conn.peer_id)
        if self._open[peer] >= STREAMS_PER_PEER:
            await self._guard.contain("reset", peer, stream.reset)
            return
        self._open[peer] += 1
        try:
            step = partial(self._inner, stream)
            lost = partial(is_lost, stream)
            if not await self._guard.contain("stream", peer, step, expected=lost):
                await self._guard.contain("reset", peer, stream.reset)
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


class Allowance:
    """A token bucket per author: `AUTHOR_BURST` at once, `AUTHOR_RATE_PER_S` after that."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, author: str, now: float) -> bool:
        """Whether `author` may publish one more message at time `now` (seconds)."""
        tokens, before = self._buckets.get(author, (AUTHOR_BURST, now))
        tokens = min(AUTHOR_BURST, tokens + (now - before) * AUTHOR_RATE_PER_S)
        granted = tokens >= 1.0
        self._buckets[author] = (tokens - 1.0 if granted else tokens, now)
        return granted


class OneTopicGossip(GossipSub):
    """GossipSub for one topic: no peer exchange, no foreign topics, no unbounded tables.

    Degrees 6/4/64 because pruning disconnects small meshes; heartbeat 1 s instead of 120 s;
    history two minutes, so that a neighbour who comes back hears what it missed.
    """

    def __init__(self, guard: Guard, topic: str) -> None:
        super().__init__(
            protocols=[TProtocol(PROTOCOL_ID_V11)],
            degree=6,
            degree_low=4,
            degree_high=64,
            gossip_window=3,
            gossip_history=120,
            heartbeat_initial_delay=0.1,
            heartbeat_interval=1,
            do_px=False,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self._guard = guard
        self._topic = topic

    async def heartbeat(self) -> None:
        """Beat for ever, also after a beat that raised."""
        while True:
            await self._guard.contain("heartbeat", "", super().heartbeat)
            await trio.sleep(self.heartbeat_interval)

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Handle control entries about our topic; raises ValueError on any other."""
        control = rpc.control
        topics = [ihave.topicID for ihave in control.ihave]
        topics += [graft.topicID for graft in control.graft]
        topics += [prune.topicID for prune in control.prune]
        if any(topic != self._topic for topic in topics):
            raise ValueError("control entry about a topic that is not ours")
        if len(topics) + len(control.iwant) + len(control.idontwant) > CONTROL_ENTRIES:
            raise ValueError("too many control entries")
        await super().handle_rpc(rpc, sender_peer_id)

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Forward a message; libp2p's delivery times, kept for ever, are forgotten."""
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()

    async def _do_px(self, px_peers: list[rpc_pb2.PeerInfo]) -> None:
        """Ignore peer exchange: members are known, and nobody else chooses whom we dial."""


class MemberPubsub(Pubsub):
    """Pubsub whose entry points are contained and whose authors are members.

    `deliver` gets each new message of others (author, data); it must not block.
    """

    def __init__(
        self,
        host: IHost,
        router: OneTopicGossip,
        *,
        topic: str,
        members: Callable[[], frozenset[str]],
        message_bytes: int,
        first_number: int,
        deliver: Callable[[str, bytes], None],
        guard: Guard,
    ) -> None:
        super().__init__(host, router, strict_signing=True, allowed_topics={topic})
        self.counter = first_number  # libp2p starts at the second: a restart would repeat numbers
        self._topic = topic
        self._members = members
        self._message_bytes = message_bytes
        self._deliver = deliver
        self._guard = guard
        self._allowance = Allowance()

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge and forward one message; a malformed one is counted and dropped."""
        step = partial(self._push, msg_forwarder, msg)
        await self._guard.contain("gossip message", str(msg_forwarder), step)

    async def _push(self, forwarder: ID, msg: rpc_pb2.Message) -> None:
        author = str(ID(msg.from_id))
        if list(msg.topicIDs) != [self._topic] or len(msg.data) > self._message_bytes:
            raise ValueError(f"a message of {author} with a foreign topic or too long")
        if author not in self._members() and forwarder != self.my_id:
            raise ValueError(f"a message of {author}, who is not a member")
        await super().push_msg(forwarder, msg)

    async def validate_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Hold the author, whose signature has been checked, to its rate.

        Replaces libp2p's validators and their cache, which an author can use to skip them.
        """
        author = str(ID(msg.from_id))
        if msg_forwarder != self.my_id and not self._allowance.take(author, trio.current_time()):
            self._guard.note("gossip rate", author, ValidationError("too many messages"))
            raise ValidationError("too many messages")

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Deliver at once: libp2p's own queue of 32 would drop the rest of a burst."""
        author = ID(publish_message.from_id)
        if author != self.my_id:
            self._deliver(str(author), publish_message.data)

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read a neighbour's stream to its end; garbage resets that stream only."""
        peer = stream.muxed_conn.peer_id
        step = partial(super().continuously_read_stream, stream)
        lost = partial(is_lost, stream)
        if not await self._guard.contain("gossip stream", str(peer), step, expected=lost):
            await self._guard.contain("reset", str(peer), stream.reset)
            self._handle_dead_peer(peer)

    def connection_lost(self, conn: INetConn) -> None:
        """Move to another connection when a neighbour's outgoing stream lived on `conn`."""
        peer = conn.muxed_conn.peer_id
        stream = self.peers.get(peer)
        if stream is not None and stream.muxed_conn is conn.muxed_conn:
            self._handle_dead_peer(peer)

    async def say(self, data: bytes) -> None:
        """Publish, after a short pause when a neighbour's queue is filling."""
        for _ in range(PUBLISH_WAITS):
            if all(len(queue) < QUEUE_ROOM for queue in self.peer_queues.values()):
                break
            await trio.sleep(PUBLISH_WAIT_S)
        await self.publish(self._topic, data)
