"""A hostile member, or a stranger, against a node: it may lose its own connection, no more.

In every test a victim is linked to an honest member. The attacker speaks raw libp2p, most
often as a member with a valid key. Afterwards the same host of the victim still runs, the
honest member noticed nothing, and gossip passes between the two. Stock py-libp2p 0.8.1 dies
of the malformed gossip, of the raising handler and of the cancelled handshake.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext, suppress

import pytest
import trio
from libp2p import new_host
from libp2p.abc import INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as Noise
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from konsil.node.transports import libp2p_gossip
from konsil.node.transports.libp2p_transport import Libp2pTransport
from konsil.node.transports.transport import SESSION_PROTOCOL, ByteStream, PeerUp, Refused

pytestmark = pytest.mark.slow

TOPIC = "/konsil/test"
MESHSUB = "/meshsub/1.1.0"
MULTISTREAM = b"\x13/multistream/1.0.0\n"
KEYS = {
    name: create_new_key_pair(hashlib.sha256(name.encode()).digest())
    for name in ("victim", "honest", "attacker", "outsider")
}
IDS = {name: ID.from_pubkey(key.public_key) for name, key in KEYS.items()}
MEMBERS = frozenset(str(IDS[name]) for name in ("victim", "honest", "attacker"))


class Arena:
    """The victim, its honest neighbour, and ways to attack."""

    def __init__(self, victim: Libp2pTransport, honest: Libp2pTransport) -> None:
        self.victim = victim
        self.honest = honest
        self.session = victim._session

    @property
    def address(self) -> tuple[str, int]:
        _, _, host, _, port = self.victim.addresses[0].split("/")
        return host, int(port)

    @asynccontextmanager
    async def attacker(
        self, name: str = "attacker", *, plaintext: bool = False, refused: bool = False
    ) -> AsyncIterator[BasicHost]:
        """A stock libp2p host, connected to the victim or refused by it."""
        key = KEYS[name]
        security = (
            {PLAINTEXT_PROTOCOL_ID: InsecureTransport(key)}
            if plaintext
            else {NOISE: Noise(key, create_noise_key_pair().private_key)}
        )
        host = new_host(key_pair=key, sec_opt=security)
        assert isinstance(host, BasicHost)
        async with host.run(listen_addrs=[]):
            try:
                target = Multiaddr(f"{self.victim.addresses[0]}/p2p/{self.victim.peer}")
                expected = pytest.raises(BaseLibp2pError) if refused else nullcontext()
                with expected, trio.fail_after(5):
                    await host.connect(info_from_p2p_addr(target))
                yield host
            finally:
                with trio.CancelScope(shield=True):
                    await host.close()

    async def send(self, protocol: str, *garbage: bytes) -> None:
        """Write raw bytes as a member, each on a stream of its own."""
        async with self.attacker() as host:
            for data in garbage:
                stream = await host.new_stream(IDS["victim"], [TProtocol(protocol)])
                await write(stream, data)
            await trio.sleep(0.2)

    async def rpc(self, *messages: rpc_pb2.RPC) -> None:
        """Send gossip messages, however malformed, as a member."""
        framed = [encode_varint_prefixed(message.SerializeToString()) for message in messages]
        await self.send(MESHSUB, *framed)

    def count(self, where: str) -> int:
        """How often the victim contained an exception at `where`."""
        return sum(n for (place, _), n in self.victim.contained.items() if place == where)


async def write(stream: INetStream, *pieces: bytes) -> None:
    with suppress(BaseLibp2pError):
        for piece in pieces:
            await stream.write(piece)
    await trio.sleep(0.02)


async def read_all(stream: ByteStream) -> None:
    while await stream.receive_some():
        pass


async def exchange(teller: Libp2pTransport, listener: Libp2pTransport, data: bytes) -> None:
    await teller.publish(data)
    with trio.fail_after(5):
        while (await listener.gossip.receive()).data != data:
            pass


@asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    """Start, attack, and see that nobody but the attacker has suffered."""
    victim, honest = (
        Libp2pTransport(KEYS[name].private_key.to_bytes(), ["/ip4/127.0.0.1/tcp/0"], MEMBERS, TOPIC)
        for name in ("victim", "honest")
    )
    async with trio.open_nursery() as nursery:
        for transport in (victim, honest):
            await nursery.start(lambda task_status, t=transport: t.run(task_status=task_status))
        await honest.dial(victim.peer, victim.addresses)
        assert await honest.events.receive() == PeerUp(peer=victim.peer, dialled=True)
        await trio.sleep(0.3)
        attacked = Arena(victim, honest)
        yield attacked
        assert victim._session is attacked.session, "the victim's host crashed and was rebuilt"
        assert honest.peer in victim.connected()
        await exchange(victim, honest, b"the victim speaks")
        await exchange(honest, victim, b"the victim hears")
        with pytest.raises(trio.WouldBlock):
            honest.events.receive_nowait()
        nursery.cancel_scope.cancel()


def forged(**fields) -> rpc_pb2.RPC:
    """One published message, with the fields of an honest one unless told otherwise."""
    honest = {
        "data": b"x",
        "topicIDs": [TOPIC],
        "from_id": IDS["attacker"].to_bytes(),
        "seqno": os.urandom(8),
        "signature": bytes(64),
    }
    return rpc_pb2.RPC(publish=[rpc_pb2.Message(**{**honest, **fields})])


def signed(name: str, data: bytes, seqno: int, **fields) -> rpc_pb2.RPC:
    message = rpc_pb2.Message(
        data=data,
        topicIDs=fields.get("topicIDs", [TOPIC]),
        from_id=IDS[name].to_bytes(),
        seqno=seqno.to_bytes(8, "big"),
    )
    text = b"libp2p-pubsub:" + message.SerializeToString()
    message.signature = KEYS[name].private_key.sign(text)
    return rpc_pb2.RPC(publish=[message])


async def test_gossip_that_is_no_protobuf():
    async with arena() as attacked:
        await attacked.send(MESHSUB, encode_varint_prefixed(b"\xff" * 50))
        assert attacked.count("gossip stream") == 1


async def test_gossip_with_an_endless_length():
    async with arena() as attacked:
        await attacked.send(MESHSUB, b"\xff" * 20, b"\xff\xff\xff\xff\x7f" + bytes(100))
        assert attacked.count("gossip stream") == 2


async def test_gossip_with_a_bad_key():
    rsa_like = b"\x12\x20" + hashlib.sha256(b"an id that holds no key").digest()
    async with arena() as attacked:
        bad = b"\xde\xad\xbe\xef"
        await attacked.rpc(forged(from_id=rsa_like, key=bad), forged(key=bad))
        assert attacked.count("gossip message") >= 1


async def test_gossip_without_an_author():
    async with arena() as attacked:
        endless = forged(from_id=b"\xff" * 200_000)
        await attacked.rpc(*(forged(from_id=no) for no in (b"", b"\x00", b"\xff")), endless)
        assert attacked.count("gossip message") >= 4


async def test_gossip_in_the_name_of_others_is_not_heard():
    async with arena() as attacked:
        await attacked.rpc(
            forged(from_id=IDS["honest"].to_bytes(), data=b"forged"),
            forged(from_id=IDS["victim"].to_bytes(), data=b"forged"),
            signed("outsider", b"relayed for a stranger", 1),
            signed("attacker", b"on another topic", 2, topicIDs=["/other"]),
            signed("attacker", b"on two topics", 3, topicIDs=[TOPIC, "/other"]),
            signed("attacker", bytes(20_000), 4),
            signed("attacker", b"this one is in order", 5),
        )
        with trio.fail_after(2):
            assert (await attacked.victim.gossip.receive()).data == b"this one is in order"
            assert (await attacked.honest.gossip.receive()).data == b"this one is in order"
        for transport in (attacked.victim, attacked.honest):
            with pytest.raises(trio.WouldBlock):
                transport.gossip.receive_nowait()


async def test_who_sends_garbage_is_not_heard_any_more_not_even_after_hanging_up():
    async with arena() as attacked:
        garbage = encode_varint_prefixed(forged(from_id=b"").SerializeToString())
        await attacked.send(MESHSUB, garbage * 20)
        counted = attacked.count("gossip message")
        assert counted >= 16
        await attacked.rpc(signed("attacker", b"in order, but too late", 1), forged(from_id=b""))
        assert attacked.count("gossip message") == counted
        with pytest.raises(trio.WouldBlock):
            attacked.victim.gossip.receive_nowait()
        await exchange(attacked.honest, attacked.victim, b"still heard")


async def test_an_author_who_talks_too_much_is_held_to_its_rate():
    async with arena() as attacked:
        batch = rpc_pb2.RPC()
        for number in range(100, 400):
            batch.publish.extend(signed("attacker", b"spam", number).publish)
        begun = trio.current_time()
        await attacked.rpc(batch)
        with trio.fail_after(20):
            while attacked.count("gossip rate") < 150:
                await trio.sleep(0.05)
        per_s, burst = libp2p_gossip.AUTHOR_RATE
        heard = attacked.victim.gossip.statistics().current_buffer_used
        assert 50 <= heard <= burst + per_s * (trio.current_time() - begun)


async def test_a_frame_full_of_tiny_messages_slows_down_its_sender_only():
    tiny = rpc_pb2.RPC(publish=[rpc_pb2.Message(topicIDs=[TOPIC])] * 10_000)
    async with arena() as attacked:
        async with attacked.attacker() as host:
            stream = await host.new_stream(IDS["victim"], [TProtocol(MESHSUB)])
            await write(stream, *[encode_varint_prefixed(tiny.SerializeToString())] * 3)
            await trio.sleep(0.3)
            with trio.fail_after(3):
                await exchange(attacked.honest, attacked.victim, b"in time")
        assert attacked.count("gossip message") < 5000


async def test_control_messages_about_nonsense():
    control = rpc_pb2.ControlMessage(
        ihave=[rpc_pb2.ControlIHave(topicID="/other", messageIDs=[b"\xff"])],
        prune=[rpc_pb2.ControlPrune(topicID="/other", backoff=2**60)],
    )
    flood = rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=TOPIC)] * 1000)
    many = rpc_pb2.RPC(
        subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=f"/{n}") for n in range(20_000)]
    )
    async with arena() as attacked:
        foreign, long = rpc_pb2.RPC(control=control), rpc_pb2.RPC(control=flood)
        await attacked.rpc(foreign, long, many, rpc_pb2.RPC(senderRecord=b"\xff\xff"))
        assert attacked.count("gossip stream") == 3


async def test_peer_exchange_cannot_make_us_dial():
    async with arena() as attacked, trio.open_nursery() as nursery:
        called = trio.Event()

        async def trap(stream: trio.SocketStream) -> None:
            called.set()

        doors = await nursery.start(trio.serve_tcp, trap, 0)
        port = doors[0].socket.getsockname()[1]
        victim = attacked.victim._session.host
        victim.get_peerstore().add_addrs(
            IDS["outsider"], [Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")], 3600
        )
        peer = rpc_pb2.PeerInfo(peerID=IDS["outsider"].to_bytes())
        prune = rpc_pb2.ControlPrune(topicID=TOPIC, peers=[peer], backoff=1)
        await attacked.rpc(rpc_pb2.RPC(control=rpc_pb2.ControlMessage(prune=[prune])))
        with pytest.raises(BaseLibp2pError):
            await victim.new_stream(IDS["outsider"], [TProtocol(MESHSUB)])
        assert not called.is_set()
        nursery.cancel_scope.cancel()


async def test_a_stream_handler_that_raises():
    async def raising(stream: INetStream) -> None:
        await stream.read(5)
        raise RuntimeError("a bug in a handler")

    async with arena() as attacked:
        attacked.victim._session.host.set_stream_handler(TProtocol("/raises/1"), raising)
        await attacked.send("/raises/1", b"hello")
        assert attacked.count("stream") == 1


async def test_garbage_on_our_own_protocol_reaches_only_its_reader():
    async with arena() as attacked:
        async with attacked.attacker() as host:
            stream = await host.new_stream(IDS["victim"], [TProtocol(SESSION_PROTOCOL)])
            await write(stream, os.urandom(5000))
            theirs = (await attacked.victim.incoming.receive()).stream
            assert len(await theirs.receive_some()) == 5000
            await stream.reset()
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(2):
                await theirs.receive_some()
            await theirs.aclose()


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xff" * 64, id="no-length"),
        pytest.param(b"\xff" * 8 + b"\x7f" + bytes(20_000), id="huge-length"),
        pytest.param(bytes(100), id="empty"),
    ],
)
async def test_garbage_where_a_stream_chooses_its_protocol(garbage: bytes):
    async with arena() as attacked:
        async with attacked.attacker() as host:
            stream = await host.get_network().new_stream(IDS["victim"])
            await write(stream, garbage)
            await trio.sleep(0.2)
        assert attacked.count("stream") == 1


async def test_more_streams_than_anybody_needs():
    async with arena() as attacked:
        async with attacked.attacker() as host:
            network = host.get_network()
            for _ in range(200):
                await network.new_stream(IDS["victim"])
            await trio.sleep(0.3)
            (conn,) = attacked.victim._presence.connections(str(IDS["attacker"]))
            assert len(conn.get_streams()) <= 70


async def test_a_sender_that_ignores_flow_control_is_cut_off():
    async with arena() as attacked:
        async with attacked.attacker() as host:
            stream = await host.new_stream(IDS["victim"], [TProtocol(SESSION_PROTOCOL)])
            theirs = (await attacked.victim.incoming.receive()).stream
            muxed = stream.muxed_stream
            muxed.send_window = 2**40
            with trio.move_on_after(10):
                await write(stream, *[bytes(10_000_000)] * 10)
            with pytest.raises(trio.BrokenResourceError), trio.fail_after(5):
                await read_all(theirs)
        with trio.fail_after(2):
            while str(IDS["attacker"]) in attacked.victim.connected():
                await trio.sleep(0.02)


async def test_garbage_below_the_streams():
    async with arena() as attacked:
        for garbage in (b"\x00\x09" + bytes(10), b"\xff" * 12, os.urandom(400)):
            async with attacked.attacker() as host:
                (conn,) = host.get_network().get_connections(IDS["victim"])
                await conn.muxed_conn.secured_conn.write(garbage)
                # A whole Noise message that nobody encrypted: half of one would only be waited for.
                await conn.muxed_conn.secured_conn.conn.conn.stream.write(
                    b"\x00\x20" + os.urandom(32)
                )
                with trio.fail_after(5):
                    while str(IDS["attacker"]) in attacked.victim.connected():
                        await trio.sleep(0.02)
        assert str(IDS["attacker"]) not in attacked.victim.connected()


async def test_a_member_cannot_take_all_connections():
    async with arena() as attacked, AsyncExitStack() as hosts:
        for _ in range(4):
            await hosts.enter_async_context(attacked.attacker())
        await hosts.enter_async_context(attacked.attacker(refused=True))
        assert len(attacked.victim._presence.connections(str(IDS["attacker"]))) == 4


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="http"),
        pytest.param(bytes(200_000), id="zeros"),
        pytest.param(b"\xff" * 4 + b"\x7f" + bytes(200_000), id="huge-length"),
        pytest.param(MULTISTREAM + b"\x07/noise\n" + b"\xff" * 5000, id="no-handshake"),
        pytest.param(
            MULTISTREAM + b"\x07/noise\n\x00\x20" + bytes(32) + b"\xff\xff" + bytes(65535),
            id="half-a-handshake",
        ),
    ],
)
async def test_garbage_from_strangers_on_the_port(garbage: bytes):
    async with arena() as attacked:
        streams = [await trio.open_tcp_stream(*attacked.address) for _ in range(5)]
        for stream in streams:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(garbage)
                await stream.send_eof()
        with trio.fail_after(3), suppress(trio.BrokenResourceError):
            for stream in streams:
                while await stream.receive_some():
                    pass
                await stream.aclose()


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
async def test_connections_that_never_speak_keep_nobody_out(source: str):
    async with arena() as attacked, AsyncExitStack() as idle:
        for _ in range(300):
            stream = await trio.open_tcp_stream(*attacked.address, local_address=source)
            await idle.enter_async_context(stream)
        await trio.sleep(0.1)
        assert len(attacked.victim._meter.open) < 80
        async with attacked.attacker() as host:
            assert host.get_network().get_connections(IDS["victim"])


async def test_a_plaintext_dialler_is_refused():
    async with arena() as attacked:
        async with attacked.attacker(plaintext=True, refused=True):
            assert attacked.victim.connected() == {attacked.honest.peer}


async def test_an_outsider_is_refused_and_reported():
    async with arena() as attacked:
        async with attacked.attacker("outsider", refused=True):
            assert attacked.victim.connected() == {attacked.honest.peer}
        reported = [PeerUp(peer=attacked.honest.peer, dialled=False)]
        reported.append(Refused(peer=str(IDS["outsider"]), reason="not a member"))
        assert [attacked.victim.events.receive_nowait() for _ in range(2)] == reported
