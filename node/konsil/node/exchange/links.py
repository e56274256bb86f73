"""A link: the session with one connected member, its greeting, its pulse and its heads.

One stream a peer carries hello, have, ping and pong (`konsil.protocol.session`). A link is
live once both have greeted and the greeting is a member's. Silence ends it: a peer whose
host lost power is given up after `SILENCE_S`, which the transport alone would not notice.
Everything that a peer does wrong costs its own link only; however a session ends, nothing of
it stays among the live ones. Times in seconds.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from konsil.node.learning.neighbour import Neighbour
from konsil.node.transports.transport import (
    SESSION_PROTOCOL,
    ByteStream,
    PeerDown,
    PeerUp,
    Refused,
    Transport,
)
from konsil.protocol.conversation import Left
from konsil.protocol.errors import LocalProtocolError, RemoteError, UnreachableError
from konsil.protocol.messages import Have, Hello, Ping, Pong
from konsil.protocol.session import (
    Event,
    HaveReceived,
    HelloReceived,
    PingReceived,
    Role,
    Session,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member
    from konsil.protocol.messages import Head

GREETING_S = 10.0
PULSE_S = 3.0
SILENCE_S = 9.0
SEND_S = 10.0
REOPEN_S = 2.0
LONGEST_REOPEN_S = 60.0
TELL_EVERY_S = 15.0


class Link:
    """One session on one stream."""

    def __init__(self, member: Member, session: Session, stream: ByteStream) -> None:
        self.member = member
        self.have: Have | None = None
        self.greeted = False
        self.reads: frozenset[str] = frozenset()
        """The formats of payloads that it reads."""
        self.heard = trio.current_time()
        self.dirty = trio.Event()
        self._session = session
        self._stream = stream
        self._turn = trio.Lock()
        self._nonce = 0

    @property
    def role(self) -> Role:
        """Whether we opened the stream."""
        return self._session.role

    async def start(self) -> None:
        """Send our greeting."""
        async with self._turn:
            await self._send(self._session.start())

    async def say(self, message: Have | Pong) -> None:
        """Send a message of the open session."""
        async with self._turn:
            await self._send(self._session.send(message))

    async def ping(self) -> None:
        """Ask for a sign of life, unless the last question is still open."""
        async with self._turn:
            if self._session.state in (State.OPEN, State.ASKED):
                self._nonce += 1
                await self._send(self._session.send(Ping(nonce=self._nonce)))

    async def leave(self, reason: str) -> None:
        """Say why the session ends; whether it arrives does not matter."""
        try:
            async with self._turn:
                await self._send(self._session.leave(reason))
        except (
            trio.BrokenResourceError,
            trio.ClosedResourceError,
            trio.TooSlowError,
            LocalProtocolError,
        ):
            return

    async def events(self) -> Iterator[Event]:
        """The events of the next bytes. Raises `RemoteError`, or `EOFError` at the end."""
        data = await self._stream.receive_some()
        if not data:
            raise EOFError
        self.heard = trio.current_time()
        return self._session.receive(data)

    async def _send(self, data: bytes) -> None:
        with trio.fail_after(SEND_S):
            await self._stream.send_all(data)


class Links:
    """All sessions; `live` are the neighbours that the learner counts on."""

    def __init__(
        self,
        transport: Transport,
        roster: Roster,
        hello: Hello,
        limits: Limits,
        have: Callable[[], Have],
        on_have: Callable[[Member, Have], None],
        on_change: Callable[[], None],
        log: Log,
    ) -> None:
        self._transport = transport
        self._roster = roster
        self._hello = hello
        self._limits = limits
        self._have = have
        self._on_have = on_have
        self._on_change = on_change
        self._log = log
        self._live: dict[str, Link] = {}
        self._scopes: dict[str, set[trio.CancelScope]] = {}
        self._openers: dict[str, trio.CancelScope] = {}

    def live(self) -> Mapping[str, Link]:
        """The greeted links, by node id."""
        return self._live

    def neighbours(self) -> dict[str, Neighbour]:
        """The live neighbours and what they said of themselves, by node id."""
        return {
            node: Neighbour(
                node=node,
                degree=link.have.degree,
                learning=link.have.learning,
                told=_told(link.have.heads, node),
            )
            for node, link in self._live.items()
            if link.have is not None
        }

    def reads(self) -> dict[str, frozenset[str]]:
        """The formats of payloads that each live neighbour reads, by its name."""
        return {link.member.name: link.reads for link in self._live.values()}

    def tell(self) -> None:
        """What we have changed: every link will say so, once it gets to it."""
        for link in self._live.values():
            link.dirty.set()

    async def run(self) -> None:
        """Open a session with every member that the transport connects, until cancelled."""
        async with trio.open_nursery() as nursery:
            # A run before this one may have heard of them already.
            for peer in self._transport.connected():
                self._begin(nursery, peer, dialled=False)
            async for event in self._transport.events:
                if isinstance(event, PeerUp):
                    self._begin(nursery, event.peer, dialled=event.dialled)
                elif isinstance(event, PeerDown):
                    self._cancel(event.peer)
                elif isinstance(event, Refused):
                    self._log.warning("peer.refused", peer=event.peer, reason=event.reason)

    async def answer(self, peer: str, stream: ByteStream) -> None:
        """Serve a session that a peer opened."""
        await self._converse(Role.ANSWERER, peer, stream)

    def _begin(self, nursery: trio.Nursery, peer: str, *, dialled: bool) -> None:
        """Keep a session open with a connected peer; the task that did so before ends."""
        self._end_opener(peer)
        scope = self._openers[peer] = trio.CancelScope()
        nursery.start_soon(self._open, peer, dialled, scope)

    def _end_opener(self, peer: str) -> None:
        if peer in self._openers:
            self._openers.pop(peer).cancel()

    def _cancel(self, peer: str) -> None:
        self._end_opener(peer)
        for scope in self._scopes.get(peer, set()):
            scope.cancel()

    async def _open(self, peer: str, dialled: bool, scope: trio.CancelScope) -> None:
        with scope:
            await self._keep_open(peer, 0.0 if dialled else REOPEN_S)

    async def _keep_open(self, peer: str, delay: float) -> None:
        """Open the session after `delay`, and again when it ended while the peer is connected.

        Ever more seldom while it fails; one that lasted longer than the pause before it was good.
        """
        while True:
            await trio.sleep(delay)
            member = self._roster.peer(peer)
            if member is None or peer not in self._transport.connected():
                return
            if member.node not in self._live:
                try:
                    stream = await self._transport.open_stream(peer, SESSION_PROTOCOL)
                except UnreachableError as error:
                    self._log.debug("session.unopened", peer=member.name, error=error.message)
                else:
                    began = trio.current_time()
                    greeted = await self._converse(Role.OPENER, peer, stream)
                    if greeted and trio.current_time() - began > delay:
                        delay = 0.0
            delay = min(max(delay * 1.5, REOPEN_S), LONGEST_REOPEN_S)

    async def _converse(self, role: Role, peer: str, stream: ByteStream) -> bool:
        """Hold a session to its end, however it ends; whether both sides had greeted."""
        member = self._roster.peer(peer)
        if member is None:
            await stream.aclose()
            return False
        session = Session(role, self._hello, limits=self._limits)
        link = Link(member, session, stream)
        try:
            with self._scope(peer):
                await self._hold(link, session)
        finally:
            # Also when we are cancelled or crash: a dead link would pass for a neighbour.
            self._forget(link)
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await stream.aclose()
        return link.greeted

    async def _hold(self, link: Link, session: Session) -> None:
        log = self._log.bind(peer=link.member.name)
        try:
            await self._talk(link, session)
        except* RemoteError as refused:
            for error in refused.exceptions:
                log.warning("session.refused", reason=str(error))
                await link.leave(str(error))
        except* (trio.TooSlowError, EOFError):
            log.info("session.ended")
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            log.info("session.broken")
        except* LocalProtocolError as bug:
            # One of ours, which this peer's bytes or their timing brought to light.
            log.error("session.bug", reason=repr(bug.exceptions))

    @contextmanager
    def _scope(self, peer: str) -> Iterator[None]:
        with trio.CancelScope() as scope:
            self._scopes.setdefault(peer, set()).add(scope)
            try:
                yield
            finally:
                self._scopes[peer].discard(scope)

    async def _talk(self, link: Link, session: Session) -> None:
        with trio.fail_after(GREETING_S):
            if session.role is Role.OPENER:
                await link.start()
            while not link.greeted:
                for event in await link.events():
                    await self._take(link, event)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._pulse, link)
            nursery.start_soon(self._tell, link)
            while True:
                for event in await link.events():
                    await self._take(link, event)

    async def _take(self, link: Link, event: Event) -> None:
        if isinstance(event, HelloReceived):
            await self._greet(link, event.hello)
        elif isinstance(event, HaveReceived):
            link.have = event.have
            self._on_have(link.member, event.have)
            self._on_change()
        elif isinstance(event, PingReceived):
            await link.say(Pong(nonce=event.nonce))
        elif isinstance(event, Left):
            self._log.info("session.left", peer=link.member.name, reason=event.reason)
            raise EOFError

    async def _greet(self, link: Link, hello: Hello) -> None:
        self._roster.learn(hello.genesis, link.member.peer)
        if link.role is Role.ANSWERER:
            await link.start()
        link.greeted, link.reads = True, frozenset(hello.reads)
        self._live[link.member.node] = link
        self._log.info("link.up", peer=link.member.name, version=hello.version)
        self.tell()
        self._on_change()

    async def _pulse(self, link: Link) -> None:
        while True:
            await trio.sleep(PULSE_S)
            if trio.current_time() - link.heard > SILENCE_S:
                self._log.warning("link.silent", peer=link.member.name)
                await self._transport.disconnect(link.member.peer)
                raise trio.TooSlowError
            await link.ping()

    async def _tell(self, link: Link) -> None:
        while True:
            link.dirty = trio.Event()
            await link.say(self._have())
            with trio.move_on_after(TELL_EVERY_S):
                await link.dirty.wait()

    def _forget(self, link: Link) -> None:
        if self._live.get(link.member.node) is link:
            del self._live[link.member.node]
            self._log.info("link.down", peer=link.member.name)
            self.tell()
            self._on_change()


def _told(heads: Iterable[Head], node: str) -> dict[str, int]:
    """The newest number of each kind among those heads that are of `node` itself."""
    told: dict[str, int] = {}
    for head in heads:
        if head.publisher == node:
            told[head.kind] = max(head.sequence, told.get(head.kind, 0))
    return told
