"""Sessions over the memory transport: whatever ends one leaves nothing of it behind."""

from __future__ import annotations

from itertools import pairwise

import pytest
import structlog
import trio
from network import Network

from konsil.node.config import read_config
from konsil.node.exchange.links import GREETING_S, REOPEN_S, Links
from konsil.node.keys import load_keys
from konsil.node.opening import open_journal
from konsil.node.paths import Home
from konsil.node.roster import Roster
from konsil.protocol.encoding import FORMATS
from konsil.protocol.errors import LocalProtocolError
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.messages import Have, Hello

LOG = structlog.wrap_logger(structlog.ReturnLogger())
GARBAGE = b"\xff" * 64


class Side:
    """One member's links on a memory transport, without a daemon around them."""

    def __init__(self, net, name, protocols=None):
        home = Home(net.root / name)
        config = read_config(home.config)
        journal = open_journal(home, config, load_keys(home.keys), LOG)
        self.roster = Roster(config, home.peers)
        hello = Hello(
            consortium=self.roster.consortium, node=self.roster.me.node, name=name,
            charter=self.roster.charter, genesis=journal.author.entry, version="1",
            reads=FORMATS,
        )  # fmt: skip
        journal.close()
        peers = frozenset(member.peer for member in net.members.values())
        options = {} if protocols is None else {"protocols": protocols}
        self.transport = net.fabric.transport(self.roster.me.peer, peers, **options)
        self.on_have = lambda *_: None
        self.links = Links(
            self.transport, self.roster, hello, DEFAULT_LIMITS,
            lambda: Have(heads=(), degree=0, neighbours=(), learning=True),
            lambda *told: self.on_have(*told), lambda: None, LOG,
        )  # fmt: skip
        self.opened = []
        open_stream = self.transport.open_stream

        async def counted(peer, protocol):
            self.opened.append(trio.current_time())
            return await open_stream(peer, protocol)

        self.transport.open_stream = counted

    @property
    def peer(self):
        return self.transport.peer

    @property
    def live(self):
        return {link.member.name for link in self.links.live().values()}

    async def answer(self):
        async with trio.open_nursery() as nursery:
            async for arrived in self.transport.incoming:
                nursery.start_soon(self.links.answer, arrived.peer, arrived.stream)

    async def reach(self, other):
        await self.transport.dial(other.peer, other.transport.addresses)


@pytest.fixture
def net(tmp_path):
    return Network(tmp_path, None, "ab")


@pytest.fixture
async def a(net, nursery):
    side = Side(net, "a")
    await nursery.start(side.transport.run)
    return side


@pytest.fixture
async def b(net, nursery):
    side = Side(net, "b")
    await nursery.start(side.transport.run)
    return side


async def in_scope(service, task_status=trio.TASK_STATUS_IGNORED):
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await service()


class Deaf:
    """A stream that brings `data` (None: nothing, ever) and takes nothing."""

    def __init__(self, data):
        self._data = data
        self.closed = False

    async def receive_some(self, max_bytes=65536):
        if self._data is None:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        data, self._data = self._data, b""
        return data

    async def send_all(self, data):
        await trio.sleep_forever()

    async def aclose(self):
        self.closed = True


async def test_a_liar_that_does_not_read_costs_its_own_link_only(autojump_clock, a, b):
    stream = Deaf(GARBAGE)
    with trio.fail_after(60):
        await a.links.answer(b.peer, stream)
    assert stream.closed


async def test_a_crash_leaves_no_dead_link(autojump_clock, a, b, nursery):
    def crash(*_):
        raise RuntimeError("crash")

    a.on_have = crash
    nursery.start_soon(b.answer)
    await a.reach(b)
    with pytest.RaisesGroup(RuntimeError, flatten_subgroups=True), trio.fail_after(60):
        await a.links.run()
    assert a.live == set()
    await trio.sleep(1)
    assert b.live == set()
    nursery.cancel_scope.cancel()


async def test_a_bug_that_one_peer_brings_to_light_costs_its_link_only(
    autojump_clock, a, b, nursery
):
    def bug(*_):
        raise LocalProtocolError("out of turn")

    a.on_have = bug
    nursery.start_soon(b.answer)
    nursery.start_soon(a.links.run)
    await a.reach(b)
    await trio.sleep(100)
    assert (a.live, b.live) == (set(), set())
    assert 3 <= len(a.opened) <= 12
    nursery.cancel_scope.cancel()


async def test_links_that_run_again_open_what_is_connected(autojump_clock, a, b, nursery):
    nursery.start_soon(b.answer)
    scope = await nursery.start(in_scope, a.links.run)
    await a.reach(b)
    await trio.sleep(1)
    assert (a.live, b.live) == ({"b"}, {"a"})
    scope.cancel()
    await trio.sleep(1)
    assert (a.live, b.live) == (set(), set())
    nursery.start_soon(a.links.run)
    await trio.sleep(2 * REOPEN_S)
    assert (a.live, b.live) == ({"b"}, {"a"})
    nursery.cancel_scope.cancel()


async def test_links_that_start_late_open_one_session(autojump_clock, a, b, nursery):
    """The peer is connected already, and the transport has yet to tell of it."""
    nursery.start_soon(b.answer)
    await a.reach(b)
    nursery.start_soon(a.links.run)
    await trio.sleep(600)
    assert a.live == {"b"}
    assert len(a.opened) == 1
    nursery.cancel_scope.cancel()


async def test_a_stream_that_dies_in_the_greeting_is_closed(autojump_clock, a, b, nursery):
    stream = Deaf(None)
    scope = await nursery.start(in_scope, lambda: a.links.answer(b.peer, stream))
    await trio.sleep(GREETING_S / 2)
    scope.cancel()
    await trio.sleep(1)
    assert stream.closed
    nursery.cancel_scope.cancel()


async def test_a_peer_that_comes_and_goes_has_one_opener(autojump_clock, net, a, nursery):
    b = Side(net, "b", protocols=())
    await nursery.start(b.transport.run)
    nursery.start_soon(a.links.run)
    for _ in range(8):
        await a.reach(b)
        await trio.sleep(0.1)
        await a.transport.disconnect(b.peer)
        await trio.sleep(0.1)
    await a.reach(b)
    await trio.sleep(600)
    before = len(a.opened)
    await trio.sleep(600)
    assert 9 <= len(a.opened) - before <= 11
    nursery.cancel_scope.cancel()


async def test_a_good_session_is_opened_again_soon(autojump_clock, a, b, nursery):
    """After many that failed, which were opened ever more seldom."""
    failed, good, ended = 12, [], []

    async def answer():
        for _ in range(failed):
            arrived = await b.transport.incoming.receive()
            await arrived.stream.aclose()
        arrived = await b.transport.incoming.receive()
        with trio.move_on_after(1000):
            await b.links.answer(arrived.peer, arrived.stream)
        ended.append(trio.current_time())
        await b.transport.incoming.receive()
        good.append(trio.current_time() - ended[0])

    nursery.start_soon(a.links.run)
    await a.reach(b)
    with trio.fail_after(5000):
        await answer()
    gaps = [later - one for one, later in pairwise(a.opened[:failed])]
    assert gaps == sorted(gaps)
    assert max(gaps) > 50
    assert good[0] <= 2 * REOPEN_S
    nursery.cancel_scope.cancel()
