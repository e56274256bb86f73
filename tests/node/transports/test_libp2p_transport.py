"""What only a real network has: ports, names, processes that die or freeze, crashes inside."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.node.transports.transport import (
    ARTIFACT_PROTOCOL,
    SESSION_PROTOCOL,
    ByteStream,
    PeerDown,
    PeerUp,
)
from konsil.protocol.errors import ConfigError, UnreachableError

pytestmark = pytest.mark.slow

ANY_PORT = ("/ip4/127.0.0.1/tcp/0",)
TOPIC = "/konsil/test"


def seed(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def peer_of(name: str) -> str:
    return Libp2pTransport(seed(name), (), frozenset(), TOPIC).peer


MEMBERS = frozenset(map(peer_of, ("a", "b", "c")))


def make(name: str, listen=ANY_PORT, **options) -> Libp2pTransport:
    return Libp2pTransport(seed(name), listen, MEMBERS, TOPIC, **options)


async def start(nursery: trio.Nursery, name: str, listen=ANY_PORT, **options) -> Libp2pTransport:
    transport = make(name, listen, **options)
    await nursery.start(lambda task_status: transport.run(task_status=task_status))
    return transport


async def event(transport: Libp2pTransport, within_s: float = 5.0):
    with trio.fail_after(within_s):
        return await transport.events.receive()


async def drain(stream: ByteStream) -> int:
    """Read to the end; the bytes read."""
    total = 0
    while chunk := await stream.receive_some(2**20):
        total += len(chunk)
    return total


CHILD = """
import sys, trio
from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.node.transports.transport import SESSION_PROTOCOL
async def serve(arrived):
    try:
        while arrived.protocol == SESSION_PROTOCOL and await arrived.stream.receive_some():
            pass
        while arrived.protocol != SESSION_PROTOCOL:
            await arrived.stream.send_all(bytes(1_000_000))
        await arrived.stream.send_all(b"read it all")
    except trio.BrokenResourceError:
        pass
    await arrived.stream.aclose()
async def main():
    seed, topic, *members = sys.argv[1:]
    own = Libp2pTransport(bytes.fromhex(seed), ["/ip4/127.0.0.1/tcp/0"], frozenset(members), topic)
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: own.run(task_status=task_status))
        print(*own.addresses, flush=True)
        async for arrived in own.incoming:
            nursery.start_soon(serve, arrived)
trio.run(main)
"""


@asynccontextmanager
async def child(name: str) -> AsyncIterator[tuple[subprocess.Popen[str], tuple[str, ...]]]:
    """Another process with a running transport, and its addresses."""
    command = [sys.executable, "-c", CHILD, seed(name).hex(), TOPIC, *MEMBERS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert process.stdout is not None
    try:
        with trio.fail_after(20):
            line = await trio.to_thread.run_sync(process.stdout.readline)
        yield process, tuple(line.split())
    finally:
        process.kill()
        process.stdout.close()
        await trio.to_thread.run_sync(process.wait)


async def test_a_port_in_use_names_the_address(nursery):
    a = await start(nursery, "a")
    with pytest.raises(UnreachableError, match="in use") as caught:
        await make("b", (*ANY_PORT, *a.addresses)).run()
    assert a.addresses[0] in caught.value.message
    assert caught.value.exit_code == 4


def test_an_address_that_is_not_host_and_port_is_a_configuration_error():
    wrong = ("127.0.0.1:4001", "/ip4/127.0.0.1/udp/4001", "/ip4/1.2.3.4/tcp/99999", "")
    for address in (*wrong, "/ip4/1.2.3.400/tcp/1", "/ip4/127.0.0.1/tcp/1/ws"):
        with pytest.raises(ConfigError):
            make("a", (address,))


def test_the_peer_id_is_the_one_that_the_protocol_computes():
    identity = pytest.importorskip("konsil.protocol.identity")
    key = identity.SigningKey.from_seed(seed("a"))
    assert identity.peer_id(key.public.raw) == peer_of("a")


async def test_outbound_only_and_by_name(nursery):
    a, b = await start(nursery, "a", ()), await start(nursery, "b")
    port = b.addresses[0].rsplit("/", 1)[1]
    assert a.addresses == ()
    with pytest.raises(UnreachableError, match="refused"):
        await a.dial(b.peer, ("/dns4/localhost/tcp/1",))
    with pytest.raises(UnreachableError, match="not an address"):
        await a.dial(b.peer, ("/dns4/localhost/udp/1",))
    with pytest.raises(UnreachableError, match="another peer"):
        await a.dial(b.peer, (f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_of('c')}",))
    await a.dial(b.peer, (f"/dns4/localhost/tcp/{port}/p2p/{b.peer}",))
    assert await event(b) == PeerUp(peer=a.peer, dialled=False)


async def test_whoever_answers_with_another_key_is_not_whom_we_dialled(nursery):
    a, b = await start(nursery, "a"), await start(nursery, "b")
    with pytest.raises(UnreachableError):
        await a.dial(peer_of("c"), b.addresses)
    assert a.connected() == frozenset()


async def test_a_process_killed_in_midstream_is_a_break_and_no_end(nursery):
    a = await start(nursery, "a")
    async with child("b") as (process, addresses):
        await a.dial(peer_of("b"), addresses)
        assert await event(a) == PeerUp(peer=peer_of("b"), dialled=True)
        stream = await a.open_stream(peer_of("b"), ARTIFACT_PROTOCOL)
        for _ in range(30):
            assert await stream.receive_some() != b""
        process.kill()
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(2):
            await drain(stream)
        assert await event(a, 2.0) == PeerDown(peer=peer_of("b"))


async def test_a_frozen_process_is_given_up_after_two_pings(nursery):
    a = await start(nursery, "a", ping_interval_s=0.5, ping_timeout_s=1.0)
    async with child("b") as (process, addresses):
        await a.dial(peer_of("b"), addresses)
        assert await event(a) == PeerUp(peer=peer_of("b"), dialled=True)
        await trio.sleep(1.2)
        assert a.connected() == {peer_of("b")}
        stream = await a.open_stream(peer_of("b"), SESSION_PROTOCOL)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(10):
            await stream.send_all(bytes(100_000_000))
        assert await event(a, 1.0) == PeerDown(peer=peer_of("b"))
        os.kill(process.pid, signal.SIGCONT)
        await a.dial(peer_of("b"), addresses)
        assert await event(a) == PeerUp(peer=peer_of("b"), dialled=True)


async def test_a_writer_cancelled_in_a_full_socket_leaves_the_connection_whole(nursery):
    a = await start(nursery, "a")
    async with child("b") as (process, addresses):
        await a.dial(peer_of("b"), addresses)
        streams = [await a.open_stream(peer_of("b"), SESSION_PROTOCOL) for _ in range(40)]
        os.kill(process.pid, signal.SIGSTOP)
        async with trio.open_nursery() as writers:
            for stream in streams:
                writers.start_soon(stream.send_all, bytes(1_000_000))
            await trio.sleep(0.5)
            writers.cancel_scope.cancel()
            os.kill(process.pid, signal.SIGCONT)
        checked = await a.open_stream(peer_of("b"), SESSION_PROTOCOL)
        await checked.send_all(b"whole")
        await checked.send_eof()
        with trio.fail_after(5):
            assert await checked.receive_some() == b"read it all"


async def test_a_reader_may_pause_longer_than_libp2p_allows(nursery):
    a, b = await start(nursery, "a"), await start(nursery, "b")
    await a.dial(b.peer, b.addresses)
    stream = await a.open_stream(b.peer, ARTIFACT_PROTOCOL)
    theirs = (await b.incoming.receive()).stream

    async def send() -> None:
        await stream.send_all(bytes(3_000_000))
        await stream.send_eof()

    with trio.fail_after(12):
        async with trio.open_nursery() as inner:
            inner.start_soon(send)
            await trio.sleep(5.5)
            assert await drain(theirs) == 3_000_000


async def test_a_crash_inside_is_survived_on_the_same_port(nursery):
    a, b = await start(nursery, "a"), await start(nursery, "b")
    await a.dial(b.peer, b.addresses)
    assert await event(a) == PeerUp(peer=b.peer, dialled=True)
    assert await event(b) == PeerUp(peer=a.peer, dialled=False)

    async def crash() -> None:
        raise RuntimeError("a bug below the guards")

    addresses = a.addresses
    a._session.nursery.start_soon(crash)  # type: ignore[union-attr]
    assert await event(a) == PeerDown(peer=b.peer)
    assert await event(b) == PeerDown(peer=a.peer)
    with trio.fail_after(5):
        await b.dial(a.peer, addresses)
    assert await event(b) == PeerUp(peer=a.peer, dialled=True)
    assert a.contained["session", ""] == 1
    await trio.sleep(0.3)
    await a.publish(b"alive")
    with trio.fail_after(5):
        assert (await b.gossip.receive()).data == b"alive"


async def test_connections_that_come_and_go_leave_nothing_behind(nursery):
    a, b = await start(nursery, "a"), await start(nursery, "b")

    async def visit() -> None:
        await b.dial(a.peer, a.addresses)
        stream = await b.open_stream(a.peer, SESSION_PROTOCOL)
        incoming = (await a.incoming.receive()).stream
        await stream.aclose()
        await incoming.aclose()
        await b.disconnect(a.peer)
        for transport in (a, b):
            assert isinstance(await event(transport), PeerUp)
            assert isinstance(await event(transport), PeerDown)

    for _ in range(2):
        await visit()
    await trio.sleep(0.8)
    tasks, files = trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))
    for _ in range(6):
        await visit()
    await trio.sleep(0.8)
    assert trio.lowlevel.current_statistics().tasks_living <= tasks + 1
    assert len(os.listdir("/proc/self/fd")) <= files + 1
    assert set(a.contained) | set(b.contained) == set()
