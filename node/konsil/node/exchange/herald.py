"""Announcements: a signed note to everybody that a newer artifact is here.

GossipSub floods it; it is small, and losing it costs time only, since every link tells its
heads too. Only what the author says of its own artifacts is taken, and only under its own
signature, with the `art` key that our mirror of its log ends with; under another key it says
that we should look at that log. How often an author may speak is bounded by the transport. While
the transport does not run, what is to be said waits, and then the newest is said. Times in
seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.protocol import envelope, messages
from konsil.protocol.errors import ManifestRefused, RemoteError, UnreachableError
from konsil.protocol.messages import HEADS_TYPE, Announcement, Have

if TYPE_CHECKING:
    from collections.abc import Callable

    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.transports.transport import GossipMessage, Transport
    from konsil.protocol.identity import SigningKey
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

PAUSE_S = 0.2
RETRY_S = 2.0


class Herald:
    """Sends our announcements and takes those of others."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        key: Callable[[], SigningKey],
        limits: Limits,
        have: Callable[[], Have],
        checkpoint: Callable[[], bytes | None],
        clock_ms: Callable[[], int],
        on_heads: Callable[[Member, Announcement], None],
        on_unread: Callable[[Member], None],
        log: Log,
    ) -> None:
        """`on_unread` is told of who announced something under a key that we do not know yet."""
        self._transport = transport
        self._roster = roster
        self._key = key
        self._limits = limits
        self._have = have
        self._checkpoint = checkpoint
        self._clock_ms = clock_ms
        self._on_heads = on_heads
        self._on_unread = on_unread
        self._log = log
        self._news = trio.Event()
        self._told: tuple[bytes, ...] = ()

    def announce(self) -> None:
        """Something of ours may be new: say so soon."""
        self._news.set()

    async def run(self) -> None:
        """Announce and listen until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._speak)
            nursery.start_soon(self._listen)

    async def _speak(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            checkpoint = self._checkpoint()
            if checkpoint is None:
                continue  # whoever vouches for one has us look again
            announcement = self._announcement(checkpoint)
            envs = tuple(head.env for head in announcement.heads)
            if envs and envs != self._told:
                sealed = envelope.sign(HEADS_TYPE, messages.pack(announcement), self._key())
                try:
                    await self._transport.publish(envelope.pack(sealed))
                except UnreachableError as error:
                    self._log.debug("gossip.unsent", reason=error.message)
                    self._news.set()
                    await trio.sleep(RETRY_S)
                    continue
                self._told = envs
            await trio.sleep(PAUSE_S)

    def _announcement(self, checkpoint: bytes) -> Announcement:
        have, me = self._have(), self._roster.me.node
        return Announcement(
            node=me,
            heads=tuple(head for head in have.heads if head.publisher == me),
            degree=have.degree,
            neighbours=have.neighbours,
            checkpoint=checkpoint,
            sent_ms=self._clock_ms(),
        )

    async def _listen(self) -> None:
        async for message in self._transport.gossip:
            try:
                self._take(message)
            except RemoteError as error:
                self._log.warning("gossip.refused", peer=message.author, reason=str(error))

    def _take(self, message: GossipMessage) -> None:
        member = self._roster.peer(message.author)
        ring = None if member is None else self._roster.keyring(member.node)
        if member is None or ring is None:
            # Whoever we have not met yet tells us the same at its hello.
            return
        key = ring.keys["art"]
        sealed = envelope.unpack(message.data, limits=self._limits)
        if sealed.signatures[0].keyid != key.key_id:
            # Its log may say by now that it has another key.
            self._log.debug("gossip.unread", peer=member.name)
            self._on_unread(member)
            return
        payload = envelope.verify(sealed, key, payload_type=HEADS_TYPE)
        said = messages.unpack(payload, limits=self._limits)
        if not isinstance(said, Announcement) or said.node != member.node:
            raise ManifestRefused(f"{member.name} announced for somebody else")
        if any(head.publisher != member.node for head in said.heads):
            raise ManifestRefused(f"{member.name} announced heads of others")
        self._on_heads(member, said)
