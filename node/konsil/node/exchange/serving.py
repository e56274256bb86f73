"""Hand out what is on the shelf, to any member that asks, in chunks that it can verify.

Nothing is read whole: one chunk is in memory at a time, and digests that are not known from
publishing are computed as the file is walked. A reader that stalls is left after a deadline; a
peer that asks for too many at once is told when to come back, and takes nobody else's place.
A payload that our disk does not give is told to be missing; if it is lost after the offer, the
conversation is left. Either way it is logged, and the next who asks has us look again: a file
may come back from a backup. Times in seconds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, BinaryIO

import trio

from konsil.node.learning.press import chunk_file
from konsil.protocol.chunks import chunk_root
from konsil.protocol.errors import LocalProtocolError, RemoteError, StorageError
from konsil.protocol.transfer import Serve
from konsil.protocol.transfer_turns import Accepted, ServeEvent, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from konsil.node.learning.shelf import Held, Shelf
    from konsil.node.log import Log
    from konsil.node.transports.transport import ByteStream
    from konsil.protocol.limits import Limits
    from konsil.protocol.messages import Head

AT_ONCE = 4
"""Transfers at once to one peer."""
STALL_S = 60.0
RETRY_MS = 1_000
SOON_MS = 100


class Serving:
    """Answers artifact streams."""

    def __init__(
        self, shelf: Shelf, released: Callable[[Head], bool], limits: Limits, log: Log
    ) -> None:
        """`released` says whether an artifact may leave already, or its reader must come back."""
        self._shelf = shelf
        self._released = released
        self._limits = limits
        self._log = log
        self._open: Counter[str] = Counter()

    async def answer(self, peer: str, stream: ByteStream) -> None:
        """Serve one stream to its end; whatever goes wrong ends this stream only."""
        self._open[peer] += 1
        try:
            await self._converse(peer, stream)
        except RemoteError as error:
            self._log.warning("serve.refused", peer=peer, reason=error.message)
        except LocalProtocolError as error:
            self._log.error("serve.bug", peer=peer, reason=error.message)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, EOFError):
            self._log.debug("serve.broken", peer=peer)
        finally:
            self._open[peer] -= 1
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await stream.aclose()

    async def _converse(self, peer: str, stream: ByteStream) -> None:
        machine = Serve(limits=self._limits)
        held: Held | None = None
        while True:
            with trio.fail_after(STALL_S):
                data = await stream.receive_some()
            if not data:
                raise EOFError
            for event in machine.receive(data):
                if isinstance(event, Wanted):
                    held = await self._readable(event.env)
                    await self._send(stream, self._reply(machine, held, peer))
                elif isinstance(event, Accepted) and held is not None:
                    try:
                        await self._deliver(machine, held, stream)
                    except (StorageError, OSError, LocalProtocolError) as error:
                        self._unreadable(held, error)
                        await self._send(stream, machine.leave("the payload cannot be read"))
                        return
                elif self._is_last(event):
                    return

    @staticmethod
    def _is_last(event: ServeEvent) -> bool:
        return not isinstance(event, Wanted | Accepted)

    async def _readable(self, env: bytes) -> Held | None:
        """What is on the shelf under `env`, if its payload is there in its full size."""
        held = self._shelf.get(env)
        if held is not None:
            try:
                await trio.to_thread.run_sync(_check_size, held)
            except (StorageError, OSError) as error:
                self._unreadable(held, error)
                return None
        return held

    def _unreadable(self, held: Held, error: Exception) -> None:
        """Say so, and do not offer it again."""
        self._shelf.drop(held.head.env)
        art = held.artifact.payload.digest
        self._log.error("serve.unreadable", art=art, path=str(held.path), reason=repr(error))

    def _reply(self, machine: Serve, held: Held | None, peer: str) -> bytes:
        if held is None:
            return machine.missing()
        if not self._released(held.head):
            return machine.busy(SOON_MS)
        if self._open[peer] > AT_ONCE:
            return machine.busy(RETRY_MS)
        payload = held.artifact.payload
        return machine.offer(
            held.envelope,
            held.proof,
            held.knowledge,
            size=payload.size,
            chunk_bytes=payload.chunk_bytes,
        )

    async def _deliver(self, machine: Serve, held: Held, stream: ByteStream) -> None:
        size = held.artifact.payload.chunk_bytes
        digests: Sequence[bytes] = held.digests
        if not digests:
            _, digests = await trio.to_thread.run_sync(chunk_file, held.path, size)
            if chunk_root(digests).hex() != held.artifact.payload.chunk_root:
                raise StorageError(f"{held.path}: its chunks are not those of its manifest")
        await self._send(stream, machine.listing(digests))
        with held.path.open("rb") as file:
            while (index := machine.next_chunk) is not None:
                data = await trio.to_thread.run_sync(_read_at, file, index * size, size)
                await self._send(stream, machine.chunk(data))

    async def _send(self, stream: ByteStream, data: bytes) -> None:
        with trio.fail_after(STALL_S):
            await stream.send_all(data)


def _check_size(held: Held) -> None:
    """Raises `OSError`, or `StorageError` when the file is not as long as its manifest says."""
    there, size = held.path.stat().st_size, held.artifact.payload.size
    if there != size:
        raise StorageError(f"{held.path}: {there} bytes; its manifest says {size}")


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
