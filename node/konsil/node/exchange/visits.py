"""Visits: going to a neighbour to hear what it knows of everybody's logs, and to mirror its own.

A visit follows whatever a neighbour tells us (its heads, an announcement), not a clock, so an
idle network stays idle. It compares newest checkpoints, asks for the proofs that are owed, takes
the neighbour's new leaves, and asks it to cosign our own newest checkpoint. A log with two
histories is exposed at the first neighbour that saw the other one. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from konsil.node.exchange.asking import BROKEN, Line, calling
from konsil.node.transports.transport import MIRROR_PROTOCOL
from konsil.protocol import mirror
from konsil.protocol.errors import EncodingRefused, ManifestRefused, RemoteError
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven, Question, Seen
from konsil.trust.witnessing import Forked, Newer

if TYPE_CHECKING:
    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.node.transports.transport import Transport
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

PAUSE_S = 0.5
"""Between two visits to one neighbour."""
OWED_S = 60
"""How long an answer may be owed before its log is suspect."""

T = TypeVar("T", Page, Proven, Seen)
Expose = Callable[[str, bytes], Awaitable[None]]
"""Acts on a fork proof against a node."""


class Visits:
    """The service that visits; `stir` says that a neighbour may have something to tell."""

    def __init__(
        self,
        transport: Transport,
        watch: Watch,
        expose: Expose,
        after: Callable[[Member], Awaitable[None]],
        clock_s: Callable[[], int],
        limits: Limits,
        log: Log,
    ) -> None:
        """`after` is called at the end of each visit; `clock_s` gives unix seconds."""
        self._transport = transport
        self._watch = watch
        self._expose = expose
        self._after = after
        self._clock_s = clock_s
        self._limits = limits
        self._log = log
        self._due: dict[str, Member] = {}
        self._shown: dict[str, set[bytes]] = {}
        self._running: set[str] = set()
        self._turns: dict[str, trio.Lock] = {}
        self._news = trio.Event()

    def stir(self, member: Member, notes: Iterable[bytes] = ()) -> None:
        """`member` may know something new, or showed these checkpoints already."""
        shown = self._shown.setdefault(member.node, set())
        for data in notes:
            if len(shown) < mirror.MAX_NOTES:
                shown.add(data)
        self._due[member.node] = member
        self._news.set()

    async def run(self) -> None:
        """Visit until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._news.wait()
                self._news = trio.Event()
                for member in [*self._due.values()]:
                    if member.node not in self._running:
                        del self._due[member.node]
                        self._running.add(member.node)
                        nursery.start_soon(self._keep_visiting, member)

    async def _keep_visiting(self, member: Member) -> None:
        try:
            await self._visit(member)
            await self._after(member)
        except RemoteError as error:
            self._log.warning("visit.refused", peer=member.name, reason=error.message)
        except BROKEN as error:
            self._log.debug("visit.broken", peer=member.name, reason=repr(error))
        finally:
            await trio.sleep(PAUSE_S)
            self._running.discard(member.node)
            if member.node in self._due:
                self._news.set()

    async def _visit(self, member: Member) -> None:
        longest = self._limits.message_bytes
        async with calling(self._transport, member.peer, MIRROR_PROTOCOL, longest) as line:
            told = await _ask(line, Seen(notes=self._watch.newest_notes()), Seen)
            shown = self._shown.pop(member.node, set()) | set(told.notes)
            for data in shown:
                await self._meet(data, line, member)
            if self._watch.exposed(member.node) is None:
                await self._mirror(line, member)

    async def _meet(self, data: bytes, line: Line, shower: Member) -> None:
        """Hold a checkpoint that `shower` showed against what we know."""
        try:
            node = self._watch.whose(data)
            if node is None or self._watch.exposed(node) is not None:
                return
            now = self._clock_s()
            meet = partial(self._watch.meet, node, data, due=now + OWED_S)
            sight = await trio.to_thread.run_sync(meet)
            if isinstance(sight, Newer):
                told = await self._proof(node, sight, line)
                if told.root is None and not told.hashes:
                    return
                sight = self._watch.settle(node, sight, told, now=self._clock_s())
        except RemoteError as error:
            self._log.info("checkpoint.refused", peer=shower.name, reason=error.message)
            return
        if isinstance(sight, Forked):
            await self._expose(node, sight.proof)

    async def _proof(self, node: str, question: Newer, line: Line) -> Proven:
        """What links two sizes of a log: our mirror if it goes so far, else whom we visit."""
        wanted = Prove(node=node, old=question.from_size, size=question.to_size)
        told = await _ask(line, wanted, Proven)
        return told if told.root is not None else self._watch.prove(wanted)

    async def mirror(self, member: Member) -> None:
        """Hold all that a neighbour signed for. Raises one of `BROKEN`, or a `RemoteError`."""
        longest = self._limits.message_bytes
        async with calling(self._transport, member.peer, MIRROR_PROTOCOL, longest) as line:
            await self._mirror(line, member)

    async def _mirror(self, line: Line, member: Member) -> None:
        """Take the neighbour's new leaves, and only then believe the checkpoint over them.

        A checkpoint that is known while its leaves are not would keep its author, should it lose
        its disk, from ever signing again.
        """
        node = member.node
        turn = self._turns.setdefault(node, trio.Lock())
        async with turn:
            first = self._watch.kept(node).size
            page = await _ask(line, Ask(node=node, first=first), Page)
            if not page.held:
                return
            data, head = page.held, self._watch.open(node, page.held)
            leaves: list[Leaf] = []
            while len(leaves) < head.size - first:
                if page.first != first + len(leaves):
                    raise EncodingRefused("another page than was asked for")
                found = [leaf for _, leaf in mirror.read_page(page.frames, page.first)]
                if not found:
                    raise ManifestRefused("a page without a leaf")
                leaves += found
                if len(leaves) < head.size - first:
                    page = await _ask(line, Ask(node=node, first=first + len(leaves)), Page)
            try:
                if leaves:
                    taken = leaves[: head.size - first]
                    await trio.to_thread.run_sync(self._watch.extend, node, taken, data, head)
            finally:
                # Also when the leaves do not lead there: two histories are what we look for.
                await self._meet(data, line, member)


async def _ask(line: Line, question: Question, kind: type[T]) -> T:
    """The answer to a question, of the one kind that fits. Raises as `Line.ask` does."""
    answer = mirror.read_answer(await line.ask(mirror.pack(question)))
    if not isinstance(answer, kind):
        raise EncodingRefused(f"an answer other than a {kind.__name__}")
    return answer
