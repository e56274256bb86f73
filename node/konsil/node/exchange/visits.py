"""Visits: going to a neighbour to hear what it knows of everybody's logs, and to mirror its own.

A visit follows whatever a neighbour tells us (its heads, an announcement), not a clock, so an
idle network stays idle. It compares newest checkpoints, asks for the proofs that are owed, and
takes the neighbour's new leaves. A log with two histories is exposed at the first neighbour that
saw the other one. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from konsil.node.exchange.asking import BROKEN
from konsil.node.transports.transport import MIRROR_PROTOCOL
from konsil.protocol import mirror
from konsil.protocol.errors import EncodingRefused, LimitExceeded, ManifestRefused, RemoteError
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven, Question, Seen
from konsil.trust.witnessing import Forked, Newer

if TYPE_CHECKING:
    from konsil.node.exchange.asking import Lines
    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

PAUSE_S = 2.0
"""Between two visits to one neighbour."""
MAX_LEAVES, MAX_BYTES = 1 << 20, 256 << 20
"""Leaves, and bytes of frames, that one mirroring takes: they are in memory until they verify."""
OWED_S = 60
"""How long an answer may be owed before its log is suspect."""

T = TypeVar("T", Page, Proven, Seen)
Expose = Callable[[str, bytes], Awaitable[None]]
"""Acts on a fork proof against a node."""


class Visits:
    """The service that visits; `stir` says that a neighbour may have something to tell."""

    def __init__(
        self,
        lines: Lines,
        roster: Roster,
        watch: Watch,
        expose: Expose,
        clock_s: Callable[[], int],
        limits: Limits,
        log: Log,
    ) -> None:
        """`clock_s` gives unix seconds."""
        self._lines = lines
        self._roster = roster
        self._watch = watch
        self._expose = expose
        self._clock_s = clock_s
        self._limits = limits
        self._log = log
        self._due: dict[str, Member] = {}
        self._shown: dict[str, set[bytes]] = {}
        self._running: set[str] = set()
        self._turns: dict[str, trio.Lock] = {}
        self._news = trio.Event()

    def stir(self, member: Member) -> None:
        """`member` may know something new."""
        self._due[member.node] = member
        self._news.set()

    def shown(self, member: Member, notes: Iterable[bytes]) -> None:
        """`member` showed these checkpoints; whoever visits us and knows no more has no news."""
        news = {data for data in notes if self._watch.is_news(data)}
        if news:
            waiting = self._shown.setdefault(member.node, set())
            waiting.update([*news][: mirror.MAX_NOTES - len(waiting)])
            self.stir(member)

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
        except RemoteError as error:
            self._log.warning("visit.refused", peer=member.name, reason=error.message)
        except BROKEN as error:
            self._log.debug("visit.broken", peer=member.name, reason=repr(error))
        finally:
            try:
                await trio.sleep(PAUSE_S)
            finally:
                self._running.discard(member.node)
                if member.node in self._due:
                    self._news.set()

    async def _visit(self, member: Member) -> None:
        told = await self._ask(member, Seen(notes=self._watch.newest_notes()), Seen)
        for data in self._shown.pop(member.node, set()) | set(told.notes):
            if self._watch.is_news(data):
                await self._meet(data, member)
        if self._watch.exposed(member.node) is None:
            await self.mirror(member)

    async def _meet(self, data: bytes, shower: Member) -> None:
        """Hold a checkpoint that `shower` showed against what we know."""
        try:
            node = self._watch.whose(data)
            if node is None or self._watch.exposed(node) is not None:
                return
            if self._roster.author(node) is None:
                await self._introduce(node, shower)
            now = self._clock_s()
            meet = partial(self._watch.meet, node, data, due=now + OWED_S)
            sight = await trio.to_thread.run_sync(meet)
            if isinstance(sight, Newer):
                told = await self._proof(node, sight, shower)
                if told.root is None and not told.hashes:
                    return
                sight = self._watch.settle(node, sight, told, now=self._clock_s())
        except RemoteError as error:
            self._log.info("checkpoint.refused", peer=shower.name, reason=error.message)
            return
        if isinstance(sight, Forked):
            await self._expose(node, sight.proof)

    async def _introduce(self, node: str, shower: Member) -> None:
        """Learn the keys of a member that we never linked with: its genesis proves itself."""
        member = self._roster.node(node)
        page = await self._ask(shower, Ask(node=node, first=0), Page)
        leaves = [leaf for _, leaf in mirror.read_page(page.frames, 0)]
        if member is None or not leaves or leaves[0].entry is None:
            raise ManifestRefused(f"nobody shows the genesis entry of {node}")
        self._roster.learn(leaves[0].entry, member.peer)

    async def _proof(self, node: str, question: Newer, shower: Member) -> Proven:
        """What links two sizes of a log: our mirror if it goes so far, else whom we visit."""
        wanted = Prove(node=node, old=question.from_size, size=question.to_size)
        told = await self._ask(shower, wanted, Proven)
        return told if told.root is not None else self._watch.prove(wanted)

    async def mirror(self, member: Member) -> None:
        """Take a neighbour's new leaves, and only then believe the checkpoint over them.

        A checkpoint that is known while its leaves are not would keep its author, should it lose
        its disk, from ever signing again. Raises one of `BROKEN`, or a `RemoteError`.
        """
        node = member.node
        turn = self._turns.setdefault(node, trio.Lock())
        async with turn:
            first = self._watch.kept(node).size
            page = await self._ask(member, Ask(node=node, first=first), Page)
            if not page.held:
                return
            data, head = page.held, self._watch.open(node, page.held)
            leaves: list[Leaf] = []
            taken_bytes = 0
            while len(leaves) < head.size - first:
                if page.first != first + len(leaves):
                    raise EncodingRefused("another page than was asked for")
                found = [leaf for _, leaf in mirror.read_page(page.frames, page.first)]
                if not found:
                    raise ManifestRefused("a page without a leaf")
                leaves += found
                taken_bytes += len(page.frames)
                if len(leaves) > MAX_LEAVES or taken_bytes > MAX_BYTES:
                    raise LimitExceeded(f"{head.size - first} entries at once from {member.name}")
                if len(leaves) < head.size - first:
                    page = await self._ask(member, Ask(node=node, first=first + len(leaves)), Page)
            try:
                if leaves:
                    taken = leaves[: head.size - first]
                    await trio.to_thread.run_sync(self._watch.extend, node, taken, data, head)
            finally:
                # Also when the leaves do not lead there: two histories are what we look for.
                await self._meet(data, member)

    async def _ask(self, member: Member, question: Question, kind: type[T]) -> T:
        """The answer to a question, of the one kind that fits. Raises as `Lines.ask` does."""
        data = await self._lines.ask(member.peer, MIRROR_PROTOCOL, mirror.pack(question))
        answer = mirror.read_answer(data, limits=self._limits)
        if not isinstance(answer, kind):
            raise EncodingRefused(f"an answer other than a {kind.__name__}")
        return answer
