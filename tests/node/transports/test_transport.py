"""One suite for every transport: what the daemon may rely on, over sockets and in memory."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.node.transports.memory_transport import MemoryFabric
from konsil.node.transports.transport import (
    ARTIFACT_PROTOCOL,
    SESSION_PROTOCOL,
    ByteStream,
    GossipMessage,
    IncomingStream,
    PeerDown,
    PeerUp,
    Refused,
    Tap,
    Transport,
)
from konsil.protocol.errors import LocalProtocolError, UnreachableError

NODE = Path(__file__).resolve().parents[2] / "node" / "konsil" / "node"


class Network(ABC):
    """Several transports by name; starting one makes it a member unless it is a stranger."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.members: set[str] = set()
        self.everyone: set[str] = set()
        self._nursery = nursery
        self._scopes: dict[str, trio.CancelScope] = {}

    @abstractmethod
    def make(self, name: str, members: set[str], tap: Tap | None) -> Transport: ...

    async def start(self, name: str, *, stranger: bool = False, tap: Tap | None = None):
        transport = self.make(name, self.everyone if stranger else self.members, tap)
        self.everyone.add(transport.peer)
        if not stranger:
            self.members.add(transport.peer)
        self._scopes[name] = await self._nursery.start(self._run, transport)
        return transport

    async def pair(self) -> tuple[Transport, Transport]:
        a, b = await self.start("a"), await self.start("b")
        await a.dial(b.peer, b.addresses)
        assert await event(a) == PeerUp(peer=b.peer, dialled=True)
        assert await event(b) == PeerUp(peer=a.peer, dialled=False)
        return a, b

    def kill(self, name: str) -> None:
        self._scopes.pop(name).cancel()

    async def _run(self, transport: Transport, task_status=trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(transport.run))
                task_status.started(scope)


class MemoryNetwork(Network):
    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__(nursery)
        self._fabric = MemoryFabric()

    def make(self, name: str, members: set[str], tap: Tap | None) -> Transport:
        return self._fabric.transport(f"peer-{name}", lambda: frozenset(members), tap=tap)


class Libp2pNetwork(Network):
    def make(self, name: str, members: set[str], tap: Tap | None) -> Transport:
        return Libp2pTransport(
            hashlib.sha256(name.encode()).digest(),
            ["/ip4/127.0.0.1/tcp/0"],
            lambda: frozenset(members),
            "/konsil/test",
            tap=tap,
        )


@pytest.fixture(params=[MemoryNetwork, Libp2pNetwork], ids=["memory", "libp2p"])
def network(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Iterator[Network]:
    return request.param(nursery)


async def event(transport: Transport, within_s: float = 5.0):
    with trio.fail_after(within_s):
        return await transport.events.receive()


async def heard(transport: Transport) -> GossipMessage:
    with trio.fail_after(5):
        return await transport.gossip.receive()


async def arrived(transport: Transport) -> IncomingStream:
    with trio.fail_after(5):
        return await transport.incoming.receive()


async def read_all(stream: ByteStream) -> bytes:
    data = bytearray()
    while chunk := await stream.receive_some():
        data += chunk
    return bytes(data)


async def quiet(transport: Transport, for_s: float = 0.3) -> None:
    """Nothing happened that the daemon would hear of."""
    await trio.sleep(for_s)
    with pytest.raises(trio.WouldBlock):
        transport.events.receive_nowait()


async def test_connection_is_seen_by_both_and_dialling_again_changes_nothing(network: Network):
    a, b = await network.pair()
    assert a.connected() == {b.peer}
    assert b.connected() == {a.peer}
    await a.dial(b.peer, b.addresses)
    await b.dial(a.peer, a.addresses)
    await quiet(a)
    await quiet(b)


async def test_simultaneous_dials_end_in_one_presence_that_works(network: Network):
    a, b = await network.start("a"), await network.start("b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.dial, b.peer, b.addresses)
        nursery.start_soon(b.dial, a.peer, a.addresses)
    assert (await event(a)).peer == b.peer
    assert (await event(b)).peer == a.peer
    stream = await a.open_stream(b.peer, SESSION_PROTOCOL)
    await stream.send_all(b"hello")
    assert await (await arrived(b)).stream.receive_some() == b"hello"
    await b.publish(b"news")
    assert (await heard(a)).data == b"news"
    await quiet(a)
    await quiet(b)
    await a.disconnect(b.peer)
    assert await event(a) == PeerDown(peer=b.peer)
    assert await event(b) == PeerDown(peer=a.peer)


async def test_streams_run_both_ways_and_close_one_half_at_a_time(network: Network):
    a, b = await network.pair()
    for opener, taker in ((a, b), (b, a)):
        ours = await opener.open_stream(taker.peer, ARTIFACT_PROTOCOL)
        theirs = await arrived(taker)
        assert (theirs.peer, theirs.protocol) == (opener.peer, ARTIFACT_PROTOCOL)
        await ours.send_all(b"question")
        await ours.send_eof()
        assert await read_all(theirs.stream) == b"question"
        await theirs.stream.send_all(b"answer")
        await theirs.stream.aclose()
        assert await read_all(ours) == b"answer"
        assert await ours.receive_some() == b""
        await ours.aclose()
        await ours.aclose()


async def test_small_reads_get_what_they_ask_for(network: Network):
    a, b = await network.pair()
    ours = await a.open_stream(b.peer, SESSION_PROTOCOL)
    await ours.send_all(b"0123456789")
    theirs = (await arrived(b)).stream
    assert [await theirs.receive_some(4) for _ in range(3)] == [b"0123", b"4567", b"89"]


async def test_five_megabytes_come_back_unchanged(network: Network):
    a, b = await network.pair()
    payload = hashlib.shake_256(b"payload").digest(5_000_000)

    async def echo() -> None:
        theirs = (await arrived(b)).stream
        while chunk := await theirs.receive_some():
            await theirs.send_all(chunk)
        await theirs.send_eof()

    async def send(stream: ByteStream) -> None:
        await stream.send_all(payload)
        await stream.send_eof()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            ours = await a.open_stream(b.peer, ARTIFACT_PROTOCOL)
            nursery.start_soon(send, ours)
            assert await read_all(ours) == payload
    assert a.bytes_written >= len(payload)
    assert a.bytes_read >= len(payload)


async def test_a_slow_reader_holds_its_writer_and_nobody_else(network: Network):
    a, b = await network.pair()
    slow = await a.open_stream(b.peer, ARTIFACT_PROTOCOL)
    unread = (await arrived(b)).stream
    with trio.move_on_after(0.5) as scope:
        await slow.send_all(bytes(40_000_000))
    assert scope.cancelled_caught
    quick = await a.open_stream(b.peer, SESSION_PROTOCOL)
    await quick.send_all(b"still here")
    assert await (await arrived(b)).stream.receive_some() == b"still here"
    assert await unread.receive_some() != b""


async def test_twenty_streams_at_once(network: Network):
    a, b = await network.pair()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(shout, (await arrived(b)).stream)

    async def shout(stream: ByteStream) -> None:
        await stream.send_all((await read_all(stream)).upper())
        await stream.aclose()

    async def ask(number: int) -> None:
        stream = await a.open_stream(b.peer, SESSION_PROTOCOL)
        await stream.send_all(f"stream {number}".encode() * 1000)
        await stream.send_eof()
        assert await read_all(stream) == f"STREAM {number}".encode() * 1000
        await stream.aclose()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            for number in range(20):
                nursery.start_soon(ask, number)


async def test_gossip_reaches_everybody_once_along_a_line(network: Network):
    line = [await network.start(name) for name in "abcd"]
    for left, right in pairwise(line):
        await left.dial(right.peer, right.addresses)
    await trio.sleep(0.5)
    for number in range(3):
        await line[0].publish(f"head {number}".encode())
    for transport in line[1:]:
        messages = [await heard(transport) for _ in range(3)]
        assert {message.author for message in messages} == {line[0].peer}
        assert {message.data for message in messages} == {b"head 0", b"head 1", b"head 2"}
    await trio.sleep(0.2)
    for transport in line:
        with pytest.raises(trio.WouldBlock):
            transport.gossip.receive_nowait()


async def test_an_announcement_that_is_too_long_is_our_own_mistake(network: Network):
    a, _ = await network.pair()
    with pytest.raises(LocalProtocolError, match="too long"):
        await a.publish(bytes(16 * 1024 + 1))


async def test_a_member_that_dies_is_missed_and_its_streams_break(network: Network):
    a, b = await network.pair()
    ours = await a.open_stream(b.peer, SESSION_PROTOCOL)
    await ours.send_all(b"x")
    await arrived(b)
    network.kill("b")
    assert await event(a, 2.0) == PeerDown(peer=b.peer)
    assert a.connected() == frozenset()
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(2):
        await ours.receive_some()
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(2):
        await ours.send_all(bytes(10_000_000))
    with pytest.raises(UnreachableError, match="not connected"):
        await a.open_stream(b.peer, SESSION_PROTOCOL)
    with pytest.raises(UnreachableError, match=re.escape(b.peer)):
        await a.dial(b.peer, ("/ip4/127.0.0.1/tcp/9",))


async def test_a_member_that_comes_back_elsewhere_is_redialled_at_once(network: Network):
    a, b = await network.pair()
    old = b.addresses
    await trio.sleep(0.3)
    await b.publish(b"news before")
    assert (await heard(a)).data == b"news before"
    network.kill("b")
    assert await event(a) == PeerDown(peer=b.peer)
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await a.dial(b.peer, old)
    returned = await network.start("b")
    assert returned.peer == b.peer
    assert returned.addresses != old
    with trio.fail_after(2):
        await a.dial(b.peer, (*old, *returned.addresses))
    assert await event(a) == PeerUp(peer=b.peer, dialled=True)
    stream = await returned.open_stream(a.peer, SESSION_PROTOCOL)
    await stream.send_all(b"back")
    assert await (await arrived(a)).stream.receive_some() == b"back"
    await trio.sleep(0.3)
    await returned.publish(b"news after the return")
    assert (await heard(a)).data == b"news after the return"


async def test_a_stranger_is_refused_and_reported(network: Network):
    a, b = await network.pair()
    outsider = await network.start("outsider", stranger=True)
    with pytest.raises(UnreachableError, match="not a member"):
        await a.dial(outsider.peer, outsider.addresses)
    with pytest.raises(UnreachableError, match="cannot reach"), trio.fail_after(5):
        await outsider.dial(a.peer, a.addresses)
    assert await event(a) == Refused(peer=outsider.peer, reason="not a member")
    assert a.connected() == {b.peer}
    await quiet(b)


async def test_disconnect_is_heard_by_both_and_undone_by_a_dial(network: Network):
    a, b = await network.pair()
    await b.disconnect(a.peer)
    assert await event(a) == PeerDown(peer=b.peer)
    assert await event(b) == PeerDown(peer=a.peer)
    await b.dial(a.peer, a.addresses)
    assert await event(a) == PeerUp(peer=b.peer, dialled=False)
    assert await event(b) == PeerUp(peer=a.peer, dialled=True)


async def test_a_stream_that_is_only_closed_ends_cleanly_on_the_other_side(network: Network):
    a, b = await network.pair()
    ours = await a.open_stream(b.peer, ARTIFACT_PROTOCOL)
    theirs = (await arrived(b)).stream
    await ours.send_all(b"all there is")
    await ours.aclose()
    assert await read_all(theirs) == b"all there is"
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()


async def test_a_reader_that_leaves_breaks_its_writer(network: Network):
    a, b = await network.pair()
    ours = await a.open_stream(b.peer, ARTIFACT_PROTOCOL)
    theirs = (await arrived(b)).stream
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError), trio.fail_after(3):
        await ours.send_all(bytes(50_000_000))


async def test_an_unknown_protocol_is_unreachable(network: Network):
    a, b = await network.pair()
    with pytest.raises(UnreachableError, match="refused"):
        await a.open_stream(b.peer, "/konsil/unknown/1")
    assert a.connected() == {b.peer}


async def test_the_tap_sees_plain_bytes_in_both_directions(network: Network):
    seen: list[tuple[str, bytes]] = []
    a = await network.start("a", tap=lambda way, data: seen.append((way, data)))
    b = await network.start("b")
    await a.dial(b.peer, b.addresses)
    ours = await a.open_stream(b.peer, SESSION_PROTOCOL)
    theirs = (await arrived(b)).stream
    await ours.send_all(b"sent on a stream")
    await theirs.send_all(b"got from a stream")
    assert await ours.receive_some() == b"got from a stream"
    await trio.sleep(0.3)
    await a.publish(b"sent by gossip")
    await b.publish(b"got by gossip")
    await heard(a)
    assert ("out", b"sent on a stream") in seen
    assert ("in", b"got from a stream") in seen
    assert ("out", b"sent by gossip") in seen
    assert ("in", b"got by gossip") in seen


async def test_stopping_takes_less_than_two_seconds_and_is_noticed(network: Network):
    hub = await network.start("hub")
    spokes = [await network.start(f"spoke {number}") for number in range(5)]
    for spoke in spokes:
        await spoke.dial(hub.peer, hub.addresses)
        await event(spoke)
    began = trio.current_time()
    network.kill("hub")
    for spoke in spokes:
        assert await event(spoke, 2.0) == PeerDown(peer=hub.peer)
    while hub.addresses:
        await trio.sleep(0.01)
    assert trio.current_time() - began < 2.0


def test_only_the_libp2p_files_import_libp2p_and_only_the_transport_is_imported() -> None:
    inside = re.compile(r"^\s*(?:from|import)\s+libp2p\b", re.MULTILINE)
    parts = re.compile(r"konsil\.node\.(libp2p_\w+)|from konsil\.node import .*\blibp2p_")
    for file in NODE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if not file.name.startswith("libp2p_"):
            assert not inside.search(text), f"{file.name} imports libp2p"
            for found in parts.finditer(text):
                assert found.group(1) == "libp2p_transport", f"{file.name} reaches past the seam"
