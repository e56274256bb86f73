"""Visits: going to a neighbour to hear what it knows of everybody's logs, and to mirror its own.

A visit follows whatever a neighbour tells us (its heads, an announcement), not a clock, so an
idle network stays idle. It takes the neighbour's new leaves, compares newest checkpoints, and
asks for the proofs that are owed, also those that nobody could give at an earlier visit. A log
with two histories is exposed at the first neighbour that saw the other one.

A checkpoint may be signed by a key that we do not know yet, because the log goes further than
our mirror of it. Then its author is visited, and the checkpoint is looked at again once more of
its log is held; while it is away, nothing follows from such a checkpoint: whoever shows it will
show it again. No visit waits for another member than the one that is visited. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.asking import BROKEN
from konsil.node.exchange.errands import Errands
from konsil.node.exchange.questions import Questions
from konsil.node.exchange.taking import OWED_S, Taking
from konsil.protocol import mirror
from konsil.protocol.errors import ManifestRefused, RemoteError, SignatureRefused
from konsil.protocol.mirror import Ask, Page, Prove, Proven, Seen
from konsil.trust.witnessing import Forked, Newer

if TYPE_CHECKING:
    from konsil.node.exchange.asking import Lines
    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member
    from konsil.trust.witnessing import Sight

PAUSE_S = 2.0
"""Between two visits to one neighbour."""
ASKED_AGAIN = 16
"""Open questions that one visit asks once more."""

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
        on_mirrored: Callable[[Member], None],
        clock_s: Callable[[], int],
        limits: Limits,
        log: Log,
    ) -> None:
        """`on_mirrored` is told when more of a member's log is held, `clock_s` gives unix
        seconds."""
        self._roster = roster
        self._watch = watch
        self._expose = expose
        self._on_mirrored = on_mirrored
        self._clock_s = clock_s
        self._log = log
        questions = Questions(lines, limits)
        self._ask = questions.ask
        self._taking = Taking(questions, watch, self._weigh, clock_s, limits, log)
        self._errands = Errands(self._call_on, PAUSE_S)
        self._shown: dict[str, dict[bytes, None]] = {}
        self._unread: dict[str, dict[bytes, Member]] = {}
        """By author: checkpoints that we could not read yet, and who showed them."""

    def stir(self, member: Member) -> None:
        """`member` may know something new."""
        self._errands.stir(member)

    def shown(self, member: Member, notes: Iterable[bytes]) -> None:
        """`member` showed these checkpoints, which may be news."""
        for data in notes:
            waiting = self._shown.setdefault(member.node, {})
            if len(waiting) < mirror.MAX_NOTES:
                waiting[data] = None
            self.stir(member)

    async def run(self) -> None:
        """Visit until cancelled."""
        for node, proof in self._watch.forks().items():
            await self._expose(node, proof)
        await self._errands.run()

    async def mirror(self, member: Member) -> None:
        """Take a neighbour's new leaves, and only then believe the checkpoint over them.

        A checkpoint that is known while its leaves are not would keep its author, should it lose
        its disk, from ever signing again. Raises one of `BROKEN`, or a `RemoteError`.
        """
        sight = await self._taking.take(member)
        if sight is not None:
            for data, shower in self._unread.pop(member.node, {}).items():
                self.shown(shower, [data])
            self._on_mirrored(member)
            await self._act(member.node, sight, member)

    async def _call_on(self, member: Member) -> None:
        try:
            await self._visit(member)
        except RemoteError as error:
            self._log.warning("visit.refused", peer=member.name, reason=error.message)
        except BROKEN as error:
            self._log.debug("visit.broken", peer=member.name, reason=repr(error))

    async def _visit(self, member: Member) -> None:
        open_ = self._watch.questions()
        told = await self._ask(member, Seen(notes=self._watch.newest_notes()), Seen)
        if self._watch.exposed(member.node) is None:
            try:
                await self.mirror(member)
            except RemoteError as error:
                self._log.warning("mirror.refused", peer=member.name, reason=error.message)
        shown = [*self._shown.pop(member.node, {}), *told.notes]
        for data in await trio.to_thread.run_sync(self._watch.news, shown):
            await self._meet(data, member)
        still = [one for one in self._watch.questions() if one in open_]
        for node, question in still[:ASKED_AGAIN]:
            try:
                await self._act(node, question, member)
            except RemoteError as error:
                self._log.debug("question.open", peer=member.name, reason=error.message)

    async def _meet(self, data: bytes, shower: Member) -> None:
        """Hold a checkpoint that `shower` showed against what we know, once we can read it."""
        try:
            node = self._watch.whose(data)
            if node is None or self._watch.exposed(node) is not None:
                return
            if self._roster.author(node) is None:
                await self._introduce(node, shower)
            try:
                await self._weigh(node, data, shower)
            except SignatureRefused:
                if self._watch.claimed(data).size <= self._watch.kept(node).size:
                    raise
                self._put_off(node, data, shower)
        except RemoteError as error:
            self._log.info("checkpoint.refused", peer=shower.name, reason=error.message)

    def _put_off(self, node: str, data: bytes, shower: Member) -> None:
        """Look at a checkpoint of `node` again once more of its log is held.

        Its author is visited for that, and not waited for: it may show a leaf a minute.
        """
        self._log.debug("checkpoint.unread", peer=shower.name, node=node)
        waiting = self._unread.setdefault(node, {})
        if len(waiting) < mirror.MAX_NOTES:
            waiting[data] = shower
        author = self._roster.node(node)
        if author is not None:
            self.stir(author)

    async def _weigh(self, node: str, data: bytes, shower: Member) -> None:
        """Hold a checkpoint of `node` against what we know. Raises a `RemoteError`."""
        meet = partial(self._watch.meet, node, data, due=self._clock_s() + OWED_S)
        await self._act(node, await trio.to_thread.run_sync(meet), shower)

    async def _act(self, node: str, sight: Sight, shower: Member) -> None:
        """Have a question answered, and a fork exposed."""
        found: Sight | None = sight
        if isinstance(sight, Newer):
            found = await self._answered(node, sight, shower)
        if isinstance(found, Forked):
            await self._expose(node, found.proof)

    async def _answered(self, node: str, question: Newer, shower: Member) -> Sight | None:
        """What follows from the shower's answer; None, and the question is kept, without one."""
        wanted = Prove(node=node, old=question.from_size, size=question.to_size)
        try:
            told = await self._ask(shower, wanted, Proven)
            if told.root is not None or told.hashes:
                settle = partial(self._watch.settle, node, question, told, now=self._clock_s())
                return await trio.to_thread.run_sync(settle)
        except (RemoteError, *BROKEN):
            await trio.to_thread.run_sync(self._watch.remember, node)
            raise
        await trio.to_thread.run_sync(self._watch.remember, node)
        return None

    async def _introduce(self, node: str, shower: Member) -> None:
        """Learn the keys of a member that we never linked with: its genesis proves itself."""
        member = self._roster.node(node)
        page = await self._ask(shower, Ask(node=node, first=0), Page)
        leaves = [leaf for _, leaf in mirror.read_page(page.frames, 0)]
        if member is None or not leaves or leaves[0].entry is None:
            raise ManifestRefused(f"nobody shows the genesis entry of {node}")
        self._roster.learn(leaves[0].entry, member.peer)
