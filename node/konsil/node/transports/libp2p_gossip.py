"""GossipSub for a consortium: members only, one topic, bounded in every direction.

What GossipSub in py-libp2p 0.8.1 leaves open is closed here: a message may not make us dial
("peer exchange"), grow a table, or cost more than it brings; a neighbour is read frame by
frame, so whoever sends too much waits. Single methods of exactly that version are overridden;
tests/attacks fails when an upgrade moves them.

A neighbour that abuses the transport is scored for it, over every reconnection, and is ignored in
the end (`libp2p_conduct`).

Invariants: every message delivered was signed by a member; nothing here decides about trust, and
no trust in models decides who is heard here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError, ValidationError
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.score import ScoreParams

from konsil.node.transports.libp2p_conduct import GRAYLIST
from konsil.node.transports.libp2p_guard import Guard, is_lost

if TYPE_CHECKING:
    from collections.abc import Callable

    from libp2p.abc import IHost, INetConn, INetStream
    from libp2p.pubsub.rpc_queue import RpcQueue

FRAME_BYTES = 256 * 1024
"""One gossip frame; a single message has `Limits.announcement_bytes` at most."""
PEER_ID_BYTES = 64
"""An author's id; ours have 38 bytes. Longer ones cost quadratic time to print."""
CONTROL_ENTRIES = 256
"""Entries of one gossip control message; an honest one carries a handful."""
AUTHOR_RATE = (10.0, 100.0)
"""New messages of one author: per second in the long run, and at once. More are dropped."""
NEIGHBOUR_RATE = (500.0, 2000.0)
"""Messages passed on by one neighbour, likewise. More wait, in its own buffers."""
QUEUE = 256
"""Gossip waiting for one neighbour; libp2p drops what comes on top of 32."""
QUEUE_ROOM = 32
"""Gossip waiting for a neighbour, above which our own publishing pauses."""
PUBLISH_WAIT_S = 0.01
"""One such pause."""
PUBLISH_WAITS = 100
"""Most such pauses in a row: a neighbour that stopped reading must not stop everybody."""


class Allowance:
    """A token bucket for each peer: `burst` at once, `per_s` after that."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._buckets: dict[str, tuple[float, float]] = {}

    def _tokens(self, peer: str, now: float) -> float:
        tokens, before = self._buckets.get(peer, (self._burst, now))
        return min(self._burst, tokens + (now - before) * self._per_s)

    def take(self, peer: str, now: float) -> bool:
        """Whether `peer` may have one more at time `now` (seconds)."""
        tokens = self._tokens(peer, now)
        granted = tokens >= 1.0
        self._buckets[peer] = (tokens - 1.0 if granted else tokens, now)
        return granted

    def reserve(self, peer: str, now: float) -> float:
        """Give `peer` one more in any case; how long it has to wait for it (seconds)."""
        tokens = self._tokens(peer, now) - 1.0
        self._buckets[peer] = (tokens, now)
        return max(0.0, -tokens / self._per_s)


class FrameReader:
    """Gossip frames from a stream: a varint length, then an RPC in protobuf."""

    def __init__(self, stream: INetStream) -> None:
        self._stream = stream
        self._held = bytearray()

    async def next(self) -> rpc_pb2.RPC:
        """The next frame. Raises ValueError on a bad length, DecodeError, libp2p's errors."""
        while True:
            start, size = self._length()
            end = start + size
            if start and len(self._held) >= end:
                rpc = rpc_pb2.RPC.FromString(bytes(memoryview(self._held)[start:end]))
                del self._held[:end]
                return rpc
            self._held += await self._stream.read(FRAME_BYTES)

    def _length(self) -> tuple[int, int]:
        """Where the frame's body starts (0: not known yet) and its length."""
        size = 0
        for place, byte in enumerate(self._held[:4]):
            size |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if size > FRAME_BYTES:
                    raise ValueError(f"a gossip frame of {size} bytes")
                return place + 1, size
        if len(self._held) >= 4:
            raise ValueError("a gossip frame without an end to its length")
        return 0, 0


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
            score_params=ScoreParams(
                app_specific_score_fn=lambda peer: guard.score(str(peer)),
                p6_appl_slack_weight=1.0,
                graylist_threshold=GRAYLIST,
            ),
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
        self._authors = Allowance(*AUTHOR_RATE)
        self._neighbours = Allowance(*NEIGHBOUR_RATE)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Judge and forward one message; a malformed one is counted and dropped."""
        step = partial(self._push, msg_forwarder, msg)
        await self._guard.contain("gossip message", str(msg_forwarder), step)

    async def _push(self, forwarder: ID, msg: rpc_pb2.Message) -> None:
        if len(msg.from_id) > PEER_ID_BYTES:
            raise ValueError("an author with an endless id")
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
        if msg_forwarder != self.my_id and not self._authors.take(author, trio.current_time()):
            self._guard.note("gossip rate", author, ValidationError("too many messages"))
            raise ValidationError("too many messages")

    def notify_subscriptions(self, publish_message: rpc_pb2.Message) -> None:
        """Deliver at once: libp2p's own queue of 32 would drop the rest of a burst."""
        author = ID(publish_message.from_id)
        if author != self.my_id:
            self._deliver(str(author), publish_message.data)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Open our stream to a neighbour; libp2p gives one up that was slow to negotiate."""
        try:
            await super()._handle_new_peer(peer_id)
        except StreamFailure as error:
            raise SwarmException(f"no gossip with {peer_id} yet") from error  # tried again

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Read a neighbour's stream to its end; garbage resets that stream only."""
        peer = stream.muxed_conn.peer_id
        step = partial(self._read, stream, peer)
        lost = partial(is_lost, stream)
        if not await self._guard.contain("gossip stream", str(peer), step, expected=lost):
            await self._guard.contain("reset", str(peer), stream.reset)
            self._handle_dead_peer(peer)

    async def _read(self, stream: INetStream, peer: ID) -> None:
        """Handle frames one after the other.

        libp2p starts a task for each message, at a cost that grows with the square of their
        number, and checks a signed address book entry that nobody here uses.
        """
        frames = FrameReader(stream)
        while True:
            try:
                rpc = await frames.next()
            except BaseLibp2pError:
                return
            rpc.ClearField("senderRecord")
            if self._guard.score(str(peer)) <= GRAYLIST:
                continue
            for message in rpc.publish:
                await trio.sleep(self._neighbours.reserve(str(peer), trio.current_time()))
                await self.push_msg(peer, message)
            if len(rpc.subscriptions) > CONTROL_ENTRIES:
                raise ValueError("too many subscriptions")
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer, subscription)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer)

    async def handle_sending_messages(
        self, peer_id: ID, stream: INetStream, queue: RpcQueue
    ) -> None:
        """Send what is queued for a neighbour, in a queue that survives a burst."""
        queue._queue.max_size = QUEUE
        queue.max_message_size = FRAME_BYTES
        await super().handle_sending_messages(peer_id, stream, queue)

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
