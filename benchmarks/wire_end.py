"""One end of a wire benchmark, in a process of its own: `python -m benchmarks.wire_end …`.

    STACK serve PAYLOAD FOLDER            prints where it listens, ends when stdin ends
    STACK pull  PAYLOAD FOLDER WHERE      pulls once, prints what it measured

Both ends read PAYLOAD, the client only to know what it has to ask for.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from pathlib import Path

import structlog
import trio

from benchmarks import artifact
from benchmarks.certificate import write_certificate
from benchmarks.measure import peak, reset_peak, resident
from konsil.node.admission import Admitted
from konsil.node.libp2p_transport import Libp2pTransport
from konsil.node.pulls import Pulls
from konsil.node.serving import Serving
from konsil.node.shelf import Shelf
from konsil.protocol import envelope
from konsil.protocol.artifact import open_sealed
from konsil.protocol.identity import peer_id
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.members import Member

LOG = structlog.wrap_logger(structlog.ReturnLogger())
SERVER, CLIENT = 1, 2
SETTLE_S = 1.0
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
BLOCK = 1 << 20


def tell(figures: object) -> None:
    """One line for the parent."""
    print(json.dumps(figures), flush=True)


def transport(me: int, listen: list[str]) -> Libp2pTransport:
    """A transport of one of the two members."""
    members = frozenset(peer_id(artifact.key(seed).public.raw) for seed in (SERVER, CLIENT))
    return Libp2pTransport(artifact.key(me).seed, listen, members, "bench/heads", log=LOG)


async def parent_is_done() -> None:
    """Wait until the parent has closed our stdin."""
    await trio.to_thread.run_sync(sys.stdin.readline)


async def serve_konsil(payload: Path, _folder: Path) -> None:
    """Hand out the artifact over libp2p with the daemon's own code."""
    ours, shelf = transport(SERVER, [LOOPBACK]), Shelf()
    shelf.add(artifact.hold(payload))
    serving = Serving(shelf, DEFAULT_LIMITS, LOG)
    async with trio.open_nursery() as nursery:
        await nursery.start(ours.run)
        tell(ours.addresses[0])
        reset_peak()
        idle = resident()

        async def answer() -> None:
            async for arrived in ours.incoming:
                await serving.answer(arrived.peer, arrived.stream)

        nursery.start_soon(answer)
        await parent_is_done()
        tell({"grown": peak() - idle})
        nursery.cancel_scope.cancel()


async def pull_konsil(payload: Path, folder: Path, where: str) -> None:
    """Pull the artifact with the daemon's own code into a spool file."""
    held, ours = artifact.hold(payload), transport(CLIENT, [])
    server = Member(
        name="server", node=artifact.PUBLISHER, peer=peer_id(artifact.key(SERVER).public.raw)
    )
    taken = trio.Event()

    def admit(_head: object, sealed: bytes, proof: bytes, _holder: str) -> Admitted:
        author = artifact.key(3).public
        manifest = open_sealed(envelope.unpack(sealed), author, limits=DEFAULT_LIMITS)
        return Admitted(artifact=manifest, envelope=sealed, proof=proof, published=None)

    async def take(_head: object, _admitted: Admitted, path: Path) -> None:
        await trio.Path(path).unlink()
        taken.set()

    async def refused(_head: object, refusal: Exception) -> None:
        raise refusal

    pulls = Pulls(
        ours,
        Shelf(),
        folder / "spool",
        DEFAULT_LIMITS,
        wanted=lambda _publisher: not taken.is_set(),
        member=lambda _node: server,
        admit=admit,
        taken=take,
        refused=refused,
        jitter=lambda: 0.5,
        log=LOG,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(ours.run)
        await ours.dial(server.peer, [where])
        nursery.start_soon(pulls.run)
        await trio.sleep(SETTLE_S)
        reset_peak()
        idle, written, read = resident(), ours.bytes_written, ours.bytes_read
        began = time.perf_counter()
        pulls.consider(server, [held.head])
        with trio.fail_after(120):
            await taken.wait()
        seconds = time.perf_counter() - began
        tell(
            {
                "seconds": seconds,
                "grown": peak() - idle,
                "written": ours.bytes_written - written,
                "received": ours.bytes_read - read,
            }
        )
        nursery.cancel_scope.cancel()


async def serve_raw(payload: Path, folder: Path, *, tls: bool) -> None:
    """Send the whole file to whoever connects."""

    async def send(stream: trio.abc.Stream) -> None:
        with payload.open("rb") as file:
            while block := file.read(BLOCK):
                await stream.send_all(block)
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    served = listeners
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(write_certificate(folder))
        served = [trio.SSLListener(one, context, https_compatible=True) for one in listeners]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, send, served)
        tell(port)
        await parent_is_done()
        tell({})
        nursery.cancel_scope.cancel()


async def pull_raw(payload: Path, folder: Path, where: str, *, tls: bool) -> None:
    """Receive the whole file and count it."""
    stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", int(where))
    if tls:
        context = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        stream = trio.SSLStream(stream, context, server_hostname="localhost", https_compatible=True)
        await stream.do_handshake()
    size = (await trio.Path(payload).stat()).st_size
    began, total = time.perf_counter(), 0
    while data := await stream.receive_some(BLOCK):
        total += len(data)
    assert total == size
    tell({"seconds": time.perf_counter() - began})


def main() -> None:
    """Be the end that the command line names."""
    stack, role, payload, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    if stack == "konsil" and role == "serve":
        trio.run(serve_konsil, payload, folder)
    elif stack == "konsil":
        trio.run(pull_konsil, payload, folder, json.loads(sys.argv[5]))
    elif role == "serve":
        trio.run(lambda: serve_raw(payload, folder, tls=stack == "tls"))
    else:
        trio.run(lambda: pull_raw(payload, folder, sys.argv[5], tls=stack == "tls"))


if __name__ == "__main__":
    main()
