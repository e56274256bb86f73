"""TCP sockets under libp2p: counted, buffered, and dialled only when we said so.

libp2p dials on its own initiative (peer exchange, address books, reconnection), so a member
could make us connect to any address; here a dial passes only while our own `dial` permits
that peer. Listening sockets belong to us and outlive a restart of the host above them; an
accepted connection frees everything it held as soon as its socket closes.
"""

from __future__ import annotations

import errno
import socket
from functools import partial
from typing import TYPE_CHECKING

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from konsil.node.transports.address import endpoint
from konsil.protocol.errors import ConfigError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from konsil.node.transports.libp2p_guard import Guard

READ_BYTES = 128 * 1024
"""One read from a socket: two Noise messages, so that most messages cost one system call."""
STRANGER_BYTES = 64 * 1024
"""What a connection may send before its handshake has named a member."""
STRANGERS_PER_HOST = 64
"""Connections from one address that have not named a member; the oldest makes room."""
AFTERLIFE_S = 0.5
"""How long the upgrade of an accepted connection may tidy up after its socket closed."""


def to_peer(address: str, peer: str) -> Multiaddr:
    """`address` without its peer id. Raises `ConfigError` when it names another than `peer`."""
    host, port, _ = endpoint(address)
    parts = address.strip("/").split("/")
    if parts[4:] not in ([], ["p2p", peer]):
        raise ConfigError(f"{address} names another peer", hint=f"we look for {peer}")
    return Multiaddr(f"/{parts[0]}/{host}/tcp/{port}")


async def bind(listen: Sequence[str]) -> dict[str, trio.SocketListener]:
    """Listening sockets by the multiaddr they really have (port 0 replaced by the port given).

    Raises `UnreachableError` naming the address that cannot be bound, and closes the others.
    """
    doors: dict[str, trio.SocketListener] = {}
    try:
        for address in listen:
            host, port, _ = endpoint(address)
            for door in await trio.open_tcp_listeners(port, host=host):
                name = door.socket.getsockname()
                kind = "ip6" if door.socket.family == socket.AF_INET6 else "ip4"
                doors[f"/{kind}/{name[0]}/tcp/{name[1]}"] = door
    except OSError as error:
        for door in doors.values():
            door.socket.close()
        taken = error.errno == errno.EADDRINUSE or "in use" in str(error)
        raise UnreachableError(
            f"cannot listen on {address}: {'the port is in use' if taken else error}",
            hint="stop the other program, or choose another port in [node] listen",
        ) from error
    return doors


class Meter:
    """Bytes that crossed our sockets, in both directions, and the sockets that are open."""

    def __init__(self) -> None:
        self.written = 0
        self.read = 0
        self.open: dict[Socket, None] = {}


class Socket(ReadWriteCloser):
    """One TCP connection under libp2p.

    Errors are libp2p's `ConnectionClosedError`, also after a local close, where libp2p's own
    class pretends that the bytes were written. `trusted` is set by the handshake; before it,
    more than `STRANGER_BYTES` end the connection.
    """

    def __init__(self, stream: trio.SocketStream, meter: Meter) -> None:
        self.trusted = False
        self.received = 0
        self.closed = trio.Event()
        self._stream = stream
        self._meter = meter
        self._sending = trio.Lock()
        self._held = bytearray()
        address = self.get_remote_address()
        self.host = address[0] if address else ""
        meter.open[self] = None

    async def write(self, data: bytes) -> None:
        """Send all of `data`."""
        async with self._sending:
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionClosedError(f"connection lost: {error}", transport="tcp") from error
        self._meter.written += len(data)

    async def read(self, n: int | None = None) -> bytes:
        """`n` bytes (at most `READ_BYTES`), fewer only at the end of the connection.

        libp2p reads a length and then exactly that much, and gives up after a hundred pieces:
        waiting here for the whole keeps slow links alive, and the cap keeps a lie about the
        length from reserving memory.
        """
        wanted = 1 if n is None else min(n, READ_BYTES)
        while len(self._held) < wanted:
            chunk = await self._receive()
            if not chunk:
                break
            self._held += chunk
        taken = len(self._held) if n is None else wanted
        data = bytes(memoryview(self._held)[:taken])
        del self._held[:taken]
        return data

    async def _receive(self) -> bytes:
        try:
            chunk = bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(f"connection lost: {error}", transport="tcp") from error
        self.received += len(chunk)
        self._meter.read += len(chunk)
        if not self.trusted and self.received > STRANGER_BYTES:
            raise ConnectionClosedError("too many bytes before the handshake", transport="tcp")
        return chunk

    async def close(self) -> None:
        """Close the socket at once; every pending read and write fails."""
        self.closed.set()
        self._meter.open.pop(self, None)
        await self._stream.aclose()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Host and port of the other side, while the socket is open."""
        try:
            name = self._stream.socket.getpeername()
        except OSError:
            return None
        return str(name[0]), int(name[1])


class MemberTcp(ITransport):
    """libp2p's view of TCP: dials permitted peers, accepts on the sockets it was given."""

    def __init__(
        self,
        nursery: trio.Nursery,
        doors: Mapping[str, trio.SocketListener],
        meter: Meter,
        guard: Guard,
    ) -> None:
        self.permitted: set[str] = set()
        self._nursery = nursery
        self._doors = doors
        self._meter = meter
        self._guard = guard

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Connect to `maddr`, which libp2p has completed with the peer's id."""
        if maddr.value_for_protocol("p2p") not in self.permitted:
            raise OpenConnectionError(f"nobody asked us to dial {maddr}")
        host, port, family = endpoint(str(maddr))
        failure: OSError | None = None
        try:
            for found in await trio.socket.getaddrinfo(
                host, port, family=family, type=socket.SOCK_STREAM
            ):
                try:
                    stream = await trio.open_tcp_stream(str(found[4][0]), port)
                except OSError as error:
                    failure = error
                else:
                    return RawConnection(Socket(stream, self._meter), True)
        except OSError as error:
            failure = error
        raise OpenConnectionError(f"{reason_of(failure)}") from failure

    async def close_all(self) -> None:
        """Close every socket; whatever waits on one fails."""
        for wire in list(self._meter.open):
            await wire.close()

    def create_listener(self, handler_function: Callable[[Socket], Awaitable[None]]) -> IListener:
        """A door that hands accepted sockets to libp2p's upgrade."""
        return Door(self._nursery, self._doors, self._meter, self._guard, handler_function)

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Whether `maddr` is a host and a TCP port."""
        try:
            endpoint(str(maddr))
        except ConfigError:
            return False
        return True

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Whether a bound socket waits for `maddr`."""
        return str(maddr) in self._doors

    def protocols(self) -> list[str]:
        """The multiaddr protocols this transport speaks."""
        return ["tcp"]


class Door(IListener):
    """Accepts connections on one bound socket until closed; the socket itself stays open."""

    def __init__(
        self,
        nursery: trio.Nursery,
        doors: Mapping[str, trio.SocketListener],
        meter: Meter,
        guard: Guard,
        upgrade: Callable[[Socket], Awaitable[None]],
    ) -> None:
        self._nursery = nursery
        self._doors = doors
        self._meter = meter
        self._guard = guard
        self._upgrade = upgrade
        self._scope = trio.CancelScope()
        self._address: Multiaddr | None = None

    async def listen(self, maddr: Multiaddr) -> None:
        """Start accepting on the socket bound for `maddr`."""
        self._address = maddr
        self._nursery.start_soon(self._accept, self._doors[str(maddr)])

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The one address of this door."""
        return (self._address,) if self._address is not None else ()

    async def close(self) -> None:
        """Stop accepting and drop what is being accepted."""
        self._scope.cancel()

    async def _accept(self, door: trio.SocketListener) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        stream = await door.accept()
                    except OSError as error:  # out of descriptors: others must close first
                        self._guard.note("accept", "", error)
                        await trio.sleep(0.1)
                    else:
                        accepted = Socket(stream, self._meter)
                        await self._make_room(accepted)
                        nursery.start_soon(self._serve, accepted)

    async def _make_room(self, accepted: Socket) -> None:
        """Close the oldest silent connection of a host that opens too many."""
        host = accepted.host
        silent = [wire for wire in self._meter.open if not wire.trusted and wire.host == host]
        for wire in silent[:-STRANGERS_PER_HOST]:
            await wire.close()

    async def _serve(self, accepted: Socket) -> None:
        async def upgrade() -> None:
            await self._guard.contain("upgrade", "", partial(self._upgrade, accepted))
            await accepted.close()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(upgrade)
                await accepted.closed.wait()
                await trio.sleep(AFTERLIFE_S)
                nursery.cancel_scope.cancel()  # libp2p would keep this task until it stops
        finally:
            with trio.CancelScope(shield=True):
                await accepted.close()


def reason_of(error: BaseException | None) -> str:
    """The innermost cause of a libp2p error, in words."""
    while error is not None:
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__
        if inner is None:
            break
        error = inner
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
