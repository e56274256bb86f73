"""Mirroring: keep what neighbours sign for, and show what we keep to whom it concerns.

Of every neighbour we hold the whole tree and the bodies that we may see. That is what makes a
rewritten log impossible to hide, and what a hospital gets its own log back from. We show our
own log to any member, the copy of another's only to that other; the newest checkpoint that
we know, and the proof that two of them belong together, to anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from konsil.node.exchange.asking import BROKEN, Line
from konsil.protocol import mirror
from konsil.protocol.errors import RemoteError
from konsil.protocol.mirror import Answer, Ask, Leaf, Page, Prove, Proven, Question, Seen
from konsil.trust.visibility import visible_to

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.store.journal import Journal
    from konsil.node.transports.transport import ByteStream
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

LEAVES = 512
"""Entries that are looked at for one page."""


class Mirroring:
    """Answers questions about logs: ours, and those that we watch."""

    def __init__(
        self,
        roster: Roster,
        journal: Journal,
        watch: Watch,
        shown: Callable[[Member, Iterable[bytes]], None],
        limits: Limits,
        log: Log,
    ) -> None:
        """`shown` is told of checkpoints that a member showed us and that are news."""
        self._roster = roster
        self._journal = journal
        self._watch = watch
        self._shown = shown
        self._limits = limits
        self._log = log

    async def answer(self, peer: str, stream: ByteStream) -> None:
        """Answer the questions on one stream to its end."""
        member = self._roster.peer(peer)
        line = Line(stream, self._limits.message_bytes)
        try:
            while member is not None:
                question = mirror.read_question(await line.question(), limits=self._limits)
                told = await trio.to_thread.run_sync(self._answer, question, member.node)
                await line.answer(mirror.pack(told))
                if isinstance(question, Seen):
                    # Whoever visits us and knows no more than we do has us visit nobody.
                    news = await trio.to_thread.run_sync(self._watch.news, question.notes)
                    self._shown(member, news)
        except RemoteError as error:
            self._log.warning("mirror.refused", peer=peer, reason=error.message)
        except BROKEN as error:
            self._log.debug("mirror.broken", peer=peer, reason=repr(error))
        finally:
            with trio.CancelScope(shield=True):
                await line.aclose()

    def _answer(self, question: Question, asker: str) -> Answer:
        if isinstance(question, Seen):
            return Seen(notes=self._watch.newest_notes())
        own = question.node == self._roster.me.node
        if isinstance(question, Prove):
            return self._own_proof(question) if own else self._watch.prove(question)
        return self._own_page(question, asker) if own else self._kept_page(question, asker)

    def _own_page(self, question: Ask, asker: str) -> Page:
        """Our own log up to its last checkpoint, without the bodies that `asker` may not see."""
        note = self._journal.checkpoint
        size = self._journal.open_checkpoint(note).size
        count = max(0, min(size - question.first, LEAVES))
        shown = [
            Leaf(item.entry if _may(asker, item) else None, item.leaf)
            for item in self._journal.leaves(question.first, count)
        ]
        return Page(
            note=note, held=note, size=size, first=question.first, frames=mirror.page(shown)
        )

    def _kept_page(self, question: Ask, asker: str) -> Page:
        """What we keep of another's log; its entries go to their author only.

        But its genesis entry goes to anybody, who cannot read its signatures without.
        """
        kept = self._watch.kept(question.node)
        own = asker == question.node
        count = LEAVES if own else int(question.first == 0)
        leaves = self._watch.leaves(question.node, question.first, count)
        return Page(
            note=kept.newest,
            held=kept.mirrored,
            size=kept.size if kept.mirrored else 0,
            first=question.first,
            frames=mirror.page(leaves),
        )

    def _own_proof(self, question: Prove) -> Proven:
        if not 0 < question.old <= question.size <= self._journal.size:
            return Proven(root=None, hashes=())
        hashes = self._journal.consistency(question.old, question.size)
        return Proven(root=self._journal.root_at(question.old), hashes=tuple(hashes))


def _may(asker: str, item: Leaf) -> bool:
    return item.entry is not None and visible_to(asker, item.entry)
