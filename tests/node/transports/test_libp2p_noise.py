"""The session between Noise and the muxer: no cut of the wire changes what is read."""

from __future__ import annotations

import hashlib
import itertools

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.security.exceptions import HandshakeFailure
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH, NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

from konsil.node.transports.libp2p_host import WINDOW_BYTES, LiveYamux
from konsil.node.transports.libp2p_noise import MemberSession
from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.node.transports.transport import ARTIFACT_PROTOCOL

TAG = 16


class Cipher:
    """Seals with a digest, so that tampering shows; the lengths are those of Noise."""

    def encrypt(self, data: bytes) -> bytes:
        assert len(data) <= MAX_PLAINTEXT_LENGTH
        return data + hashlib.sha256(data).digest()[:TAG]

    def decrypt(self, data: bytes) -> bytes:
        message, tag = data[:-TAG], data[-TAG:]
        if hashlib.sha256(message).digest()[:TAG] != tag:
            raise ValueError("tampered")
        return message


class Wire:
    """A socket that gives what it has, and counts the writes."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self.writes = bytearray(data), 0

    async def read(self, n: int) -> bytes:
        await trio.lowlevel.checkpoint()
        taken = bytes(self.data[:n])
        del self.data[:n]
        return taken

    async def write(self, data: bytes) -> None:
        self.writes += 1
        self.data += data

    async def close(self) -> None:
        pass


def session(wire: Wire) -> MemberSession:
    keys = create_new_key_pair(bytes(32))
    raw = RawConnection(wire, True)
    handshake = SecureSession(
        local_peer=ID.from_pubkey(keys.public_key),
        local_private_key=keys.private_key,
        remote_peer=ID.from_pubkey(keys.public_key),
        remote_permanent_pubkey=keys.public_key,
        is_initiator=True,
        conn=NoiseTransportReadWriter(raw, Cipher()),
    )
    return MemberSession(handshake, raw, wire)


def sealed(*messages: bytes) -> bytes:
    bodies = [Cipher().encrypt(message) for message in messages]
    return b"".join(len(body).to_bytes(2, "big") + body for body in bodies)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8), st.lists(st.integers(1, 700)))
def test_any_cut_into_messages_reads_the_same(sizes, reads):
    data = hashlib.shake_256(b"x").digest(sum(sizes))
    ends = [sum(sizes[:place]) for place in range(len(sizes) + 1)]
    messages = [data[a:b] for a, b in itertools.pairwise(ends)]

    async def read() -> None:
        ours, got = session(Wire(sealed(*messages))), b""
        for n in reads:
            if got == data:
                break
            piece = await ours.read(n)
            assert len(piece) == min(n, len(data) - len(got))
            got += piece
        while len(got) < len(data):
            got += await ours.read()
        assert got == data
        with pytest.raises(ConnectionClosedError):
            await ours.read(1)

    trio.run(read)


@given(st.integers(0, 3), st.integers(0, 40))
def test_a_long_write_is_one_system_call_and_many_messages(whole, rest):
    data = bytes(whole * MAX_PLAINTEXT_LENGTH + rest)

    async def write() -> None:
        wire = Wire()
        ours = session(wire)
        await ours.write(data)
        assert wire.writes == 1
        assert len(wire.data) == len(data) + (whole + bool(rest)) * (2 + TAG)
        if data:
            assert await ours.read(len(data)) == data

    trio.run(write)


@pytest.mark.parametrize(
    "wire",
    [b"", b"\x00", b"\x00\x00", sealed(b""), sealed(b"whole")[:-1]],
    ids=["nothing", "half a length", "no length", "empty message", "half a message"],
)
async def test_what_ends_a_connection(wire):
    with pytest.raises(ConnectionClosedError):
        await session(Wire(wire)).read(5)


async def test_bytes_before_the_end_are_not_lost():
    ours = session(Wire(sealed(b"abc", b"de")))
    assert await ours.read(9) == b"abcde"
    with pytest.raises(ConnectionClosedError):
        await ours.read(1)


async def test_a_changed_message_is_not_read():
    wire = bytearray(sealed(b"whole"))
    wire[4] ^= 1
    with pytest.raises(ValueError, match="tampered"):
        await session(Wire(bytes(wire))).read(5)


def test_only_noise_makes_a_session():
    keys = create_new_key_pair(bytes(32))
    raw = RawConnection(Wire(), True)
    stranger = SecureSession(
        local_peer=ID.from_pubkey(keys.public_key),
        local_private_key=keys.private_key,
        remote_peer=ID.from_pubkey(keys.public_key),
        remote_permanent_pubkey=keys.public_key,
        is_initiator=True,
        conn=raw,
    )
    with pytest.raises(HandshakeFailure):
        MemberSession(stranger, raw, Wire())


async def test_what_nobody_reads_is_bounded_and_arrives_whole(nursery, monkeypatch):
    """A sender is ahead of a slow reader by one window, however long the reader takes."""
    data = hashlib.shake_256(b"y").digest(3 * WINDOW_BYTES)
    seeds = {name: hashlib.sha256(name.encode()).digest() for name in "ab"}
    members = frozenset(Libp2pTransport(one, (), frozenset(), "t").peer for one in seeds.values())
    most, whole = [0], LiveYamux._read_data_body

    async def watched(self, length):
        body = await whole(self, length)
        held = sum(map(len, self.stream_buffers.values()))
        most[0] = max(most[0], held + length)
        return body

    monkeypatch.setattr(LiveYamux, "_read_data_body", watched)
    # libp2p lets a window grow when little time passed since it grew last.
    monkeypatch.setattr(LiveYamux, "rtt", lambda self: 3600.0)
    a, b = (Libp2pTransport(one, ["/ip4/127.0.0.1/tcp/0"], members, "t") for one in seeds.values())
    for one in (a, b):
        await nursery.start(lambda task_status, one=one: one.run(task_status=task_status))
    await a.dial(b.peer, b.addresses)
    ours = await a.open_stream(b.peer, ARTIFACT_PROTOCOL)
    nursery.start_soon(ours.send_all, data)
    theirs, got = (await b.incoming.receive()).stream, bytearray()
    with trio.fail_after(60):
        while len(got) < len(data):
            got += await theirs.receive_some(2**20)
            await trio.sleep(0.02)
    assert bytes(got) == data
    assert WINDOW_BYTES // 4 < most[0] <= WINDOW_BYTES
    nursery.cancel_scope.cancel()
