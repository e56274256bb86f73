"""Fetch what neighbours have and we lack: from the publisher, or from anybody that holds it.

A pull writes verified chunks to a spool file as they come, so that a slow disk or a check
never stalls the sender, and a broken link costs one chunk: the next attempt, from whichever
peer, goes on where the file ends. Pulls at once are bounded, and a publisher has one at a time.
What ends in a refusal is remembered and not asked for again. A holder that is busy is left
alone for as long as it says, within a bound, while others are asked and served.

What goes wrong with one artifact, a bug of ours included, ends the pull of that artifact only;
but errors of our own disk (`StorageError`, `VerificationError`) end the node. Times in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import trio

from konsil.node.exchange import references
from konsil.node.exchange.admission import Admitted, Refusal, with_knowledge
from konsil.node.exchange.backoff import backoff
from konsil.node.transports.transport import ARTIFACT_PROTOCOL, ByteStream, Transport
from konsil.protocol.errors import (
    LocalProtocolError,
    RemoteError,
    StorageError,
    UnreachableError,
)
from konsil.protocol.messages import Head
from konsil.protocol.reconcile import HeadTable
from konsil.protocol.transfer import Pull
from konsil.protocol.transfer_turns import ChunkVerified, Finished, OfferReceived, TryLater

if TYPE_CHECKING:
    from konsil.node.learning.shelf import Shelf
    from konsil.node.log import Log
    from konsil.protocol.artifact import Artifact
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

AT_ONCE = 4
STALL_S = 30.0
READ_BYTES = 1 << 20
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
ATTEMPTS = 6
FIRST_SHUN_S = 0.5
LONGEST_SHUN_S = 600.0

_BROKEN = (
    UnreachableError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    trio.TooSlowError,
    EOFError,
)
"""How a transfer ends whose other end, or whose way there, is lost."""

Admit = Callable[[Head, bytes, bytes, str], Awaitable[Admitted]]
Taken = Callable[[Head, Admitted, Path], Awaitable[None]]


class Pulls:
    """The service that pulls; `consider` tells it what somebody holds."""

    def __init__(
        self,
        transport: Transport,
        shelf: Shelf,
        spool: Path,
        limits: Limits,
        *,
        wanted: Callable[[Head], bool],
        member: Callable[[str], Member | None],
        admit: Admit,
        taken: Taken,
        refused: Callable[[Head, Refusal], Awaitable[None]],
        jitter: Callable[[], float],
        log: Log,
    ) -> None:
        self._transport = transport
        self._shelf = shelf
        self._spool = spool
        self._limits = limits
        self._wanted = wanted
        self._member = member
        self._admit = admit
        self._taken = taken
        self._refused = refused
        self._jitter = jitter
        self._log = log
        self._slots = trio.CapacityLimiter(AT_ONCE)
        self._heads: dict[str, HeadTable] = {}
        self._running: set[tuple[str, str]] = set()
        self._refusals: dict[tuple[str, bytes], None] = {}
        self._strikes: dict[str, int] = {}
        self._shunned_until: dict[str, float] = {}
        self._busy_until: dict[str, float] = {}
        self._news = trio.Event()

    def consider(self, holder: Member, heads: Iterable[Head]) -> None:
        """`holder` says that it can serve these. Raises `LimitExceeded` when there are too many."""
        table = self._heads.setdefault(holder.node, HeadTable(limits=self._limits))
        table.merge(heads)
        self._news.set()

    def stir(self) -> None:
        """What is wanted may have changed."""
        self._news.set()

    async def run(self) -> None:
        """Pull whatever is wanted until cancelled."""
        try:
            self._spool.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _full(self._spool, error) from error
        async with trio.open_nursery() as nursery:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                for head in self._missing():
                    self._running.add((head.publisher, head.kind))
                    nursery.start_soon(self._pull, head)

    def _missing(self) -> list[Head]:
        found: dict[tuple[str, str], tuple[bool, int, Head]] = {}
        for node, table in self._heads.items():
            for head in table.heads:
                # What its publisher tells goes first: others may tell of what there never was.
                ranked = (node == head.publisher, head.sequence, head)
                known = found.get((head.publisher, head.kind))
                if self._lacks(head) and (known is None or known[:2] < ranked[:2]):
                    found[head.publisher, head.kind] = ranked
        return [head for *_, head in found.values()]

    def _lacks(self, head: Head) -> bool:
        """Should a pull of `head` begin now?"""
        running = (head.publisher, head.kind) in self._running
        return not running and self._lacking(head) and bool(self._holders(head))

    def _lacking(self, head: Head) -> bool:
        if (head.publisher, head.env) in self._refusals or not self._wanted(head):
            return False
        if trio.current_time() < self._shunned_until.get(head.publisher, 0.0):
            return False
        newest = self._shelf.newest(head.publisher, head.kind)
        if head.size > self._limits.payload_bytes:
            return False
        if newest is None or head.sequence > newest.head.sequence:
            return True
        # Another envelope for a sequence that we hold: look at it, it may prove a lie.
        return head.sequence == newest.head.sequence and head.env != newest.head.env

    def _holders(self, head: Head) -> list[str]:
        """The node ids of connected members that hold `head`, its publisher first."""
        connected = self._transport.connected()
        holders = []
        for node, table in self._heads.items():
            member, newest = self._member(node), table.newest(head.publisher, head.kind)
            if (node, head.env) in self._refusals or member is None or newest is None:
                continue
            if member.peer in connected and newest.env == head.env:
                holders.append(node)
        return sorted(holders, key=lambda node: (node != head.publisher, node))

    async def _pull(self, head: Head) -> None:
        """Fetch one artifact and hand it over; gives up after a while, until there is news."""
        try:
            for attempt in range(ATTEMPTS):
                async with self._slots:
                    found = await self._try_holders(head)
                if found is not None:
                    await self._hand_over(head, *found)
                if not self._lacking(head):
                    return
                await trio.sleep(self._pause(head, attempt))
            self._log.info("pull.given_up", env=head.env.hex())
        finally:
            self._running.discard((head.publisher, head.kind))
            self._news.set()

    async def _try_holders(self, head: Head) -> tuple[Admitted, Path, str] | None:
        """The first complete transfer from anybody, its spool file, and who sent it."""
        for node in self._holders(head):
            if trio.current_time() < self._busy_until.get(node, 0.0):
                continue
            member = self._member(node)
            assert member is not None
            path = spool_file(self._spool, head)
            try:
                admitted = await self._behind(member, head)
                if admitted is not None:
                    return admitted, path, node
            except Refusal as refusal:
                await self._refuse(head, refusal, node)
            except RemoteError as error:
                self._log.warning("pull.refused", peer=member.name, reason=error.message)
                self._remember((node, head.env))
            except LocalProtocolError as error:
                self._log.error("pull.bug", peer=member.name, reason=error.message)
                self._remember((node, head.env))
            except _BROKEN as error:
                self._log.info("pull.broken", peer=member.name, reason=repr(error))
        return None

    def _pause(self, head: Head, attempt: int) -> float:
        """How long to wait before the next attempt: at least until some holder is not busy."""
        delay = backoff(attempt, first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
        free = [self._busy_until.get(node, 0.0) for node in self._holders(head)]
        return max(delay * (0.5 + self._jitter()), min(free, default=0.0) - trio.current_time())

    async def _hand_over(self, head: Head, admitted: Admitted, path: Path, holder: str) -> None:
        try:
            await self._taken(head, admitted, path)
            self._strikes.pop(head.publisher, None)
        except Refusal as refusal:
            try:
                await trio.Path(path).unlink(missing_ok=True)
            except OSError as error:
                raise _full(path, error) from error
            await self._refuse(head, refusal, holder)
        except LocalProtocolError as error:
            # It is whole, so whoever brings it, the same would happen again.
            self._log.error("artifact.bug", env=head.env.hex(), reason=error.message)
            self._remember((head.publisher, head.env))

    async def _refuse(self, head: Head, refusal: Refusal, holder: str) -> None:
        self._log.warning("artifact.refused", culprit=refusal.culprit, reason=str(refusal))
        self._remember((holder, head.env))
        if refusal.culprit == head.publisher:
            self._remember((head.publisher, head.env))
            self._shun(head.publisher)
        await self._refused(head, refusal)

    def _shun(self, publisher: str) -> None:
        """Ask ever more seldom of whom we refused: refusals must not fill our ledger."""
        strikes = self._strikes[publisher] = self._strikes.get(publisher, 0) + 1
        pause = backoff(strikes, first_s=FIRST_SHUN_S, longest_s=LONGEST_SHUN_S)
        self._shunned_until[publisher] = trio.current_time() + pause

    def _remember(self, refusal: tuple[str, bytes]) -> None:
        self._refusals[refusal] = None
        while len(self._refusals) > self._limits.heads:
            self._refusals.pop(next(iter(self._refusals)))

    async def _behind(self, member: Member, head: Head) -> Admitted | None:
        """Pull from one holder, behind all that it is a change of; None when it cannot be had."""
        admitted, wanted = await references.fetch(
            head,
            lambda one: self._from(member, one, spool_file(self._spool, one)),
            lambda link, found, one: self._taken(link, found, spool_file(self._spool, one)),
        )
        silent = self._busy_until.get(member.node, 0.0) < trio.current_time()
        if admitted is None and wanted is not head and silent and member.node == head.publisher:
            raise references.refused(head)
        return admitted

    async def _from(self, member: Member, head: Head, path: Path) -> Admitted | None:
        """Pull from one holder; None when it does not hold the artifact, or is busy."""
        with trio.fail_after(STALL_S):
            stream = await self._transport.open_stream(member.peer, ARTIFACT_PROTOCOL)
        try:
            return await self._converse(stream, head, member.node, path)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await stream.aclose()

    async def _converse(
        self, stream: ByteStream, head: Head, holder: str, path: Path
    ) -> Admitted | None:
        machine = Pull(head.env, limits=self._limits)
        await _send(stream, machine.start())
        admitted: Admitted | None = None
        with _Spool(path) as spool:
            while True:
                with trio.fail_after(STALL_S):
                    data = await stream.receive_some(READ_BYTES)
                if not data:
                    raise EOFError("the holder closed the stream")
                for event in machine.receive(data):
                    if isinstance(event, OfferReceived):
                        admitted = await self._admit(head, event.envelope, event.proof, holder)
                        admitted = with_knowledge(admitted, event.knowledge, holder, self._limits)
                        references.require(admitted, self._shelf)
                        first = spool.resume(admitted.artifact)
                        self._log.info("pull.begin", env=head.env.hex(), first=first)
                        await _send(stream, machine.accept(admitted.artifact, first=first))
                    elif isinstance(event, ChunkVerified):
                        await trio.to_thread.run_sync(spool.write, event.offset, event.data)
                    elif isinstance(event, Finished):
                        await _send(stream, machine.done())
                        self._log.info("pull.end", env=head.env.hex())
                        return admitted
                    else:
                        if isinstance(event, TryLater):
                            pause = min(event.retry_ms / 1000, LONGEST_RETRY_S)
                            self._busy_until[holder] = trio.current_time() + pause
                        return None


def spool_file(spool: Path, head: Head) -> Path:
    """The file that a pull of `head` fills: `<publisher>-<kind>-<env>.part`."""
    return spool / f"{head.publisher}-{head.kind}-{head.env.hex()}.part"


class _Spool:
    """The file that a pull fills; it survives a broken pull and a restart.

    A publisher has one for each kind: an offer that holds ends the older ones, which nobody
    will want again, so that broken pulls cannot fill the disk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise _full(self._path, error) from error

    def resume(self, artifact: Artifact) -> int:
        """Open the file and return the index of the first chunk that it lacks."""
        size, chunk = artifact.payload.size, artifact.payload.chunk_bytes
        try:
            for stale in self._path.parent.glob(f"{self._path.name.rpartition('-')[0]}-*.part"):
                if stale != self._path:
                    stale.unlink(missing_ok=True)
            self._path.touch()
            # Unbuffered: each write is one whole chunk, and the file is always what was written.
            self._file = self._path.open("r+b", buffering=0)
            there = os.fstat(self._file.fileno()).st_size
            if there > size:
                there = 0
            whole = there // chunk if there < size else -(-size // chunk)
            self._file.truncate(min(whole * chunk, size))
        except OSError as error:
            raise _full(self._path, error) from error
        return whole

    def write(self, offset: int, data: memoryview) -> None:
        """Put a verified chunk in its place. Raises `StorageError`."""
        assert self._file is not None
        try:
            self._file.seek(offset)
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise _full(self._path, error) from error


def _full(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written: {error.strerror}", hint="free disk space, then start again"
    )


async def _send(stream: ByteStream, data: bytes) -> None:
    with trio.fail_after(STALL_S):
        await stream.send_all(data)
