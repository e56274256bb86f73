"""Taking a log: from a member that shows its own, in portions, up to the newest that it signed.

A portion is on our disk before the next is asked for, and shown to be of the log that the
newest checkpoint is about; so a long log needs little memory, and a broken link costs one
portion. The last one is written only with the signed root that covers it, and nothing counts
before. What we keep of one log is bounded:
where it is full we hold no more of it, and vouch for no more.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from konsil.protocol import mirror
from konsil.protocol.errors import EncodingRefused, ManifestRefused, RemoteError
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from konsil.node.exchange.questions import Questions
    from konsil.node.exchange.watch import Watch
    from konsil.node.log import Log
    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member
    from konsil.trust.witnessing import Sight

PORTION_BYTES = 8 << 20
"""Bytes of frames that are in memory before they go to the disk."""
OWED_S = 60
"""How long an answer may be owed before its log is suspect."""


class Taking:
    """Takes logs, each by one task at a time."""

    def __init__(
        self,
        questions: Questions,
        watch: Watch,
        weigh: Callable[[str, bytes, Member], Awaitable[None]],
        clock_s: Callable[[], int],
        limits: Limits,
        log: Log,
    ) -> None:
        """`weigh` holds a checkpoint that a member showed against what we know."""
        self._ask = questions.ask
        self._watch = watch
        self._weigh = weigh
        self._clock_s = clock_s
        self._limits = limits
        self._log = log
        self._turns: dict[str, trio.Lock] = {}
        self._full: dict[str, int] = {}
        """Whose logs we have no room for, and how many entries of them are on our disk."""

    async def take(self, member: Member) -> Sight | None:
        """Mirror what a member has signed for by now; what follows from it, if there is news.

        Raises one of `BROKEN`, or a `RemoteError`; also then its newest checkpoint is weighed:
        two histories are what we look for.
        """
        node = member.node
        async with self._turns.setdefault(node, trio.Lock()):
            kept = self._watch.kept(node)
            page = await self._ask(member, Ask(node=node, first=kept.taken), Page)
            data = page.held
            if not data or data == kept.mirrored:
                return None
            if self._watch.whose(data) != node:
                raise ManifestRefused(f"{member.name} shows the log of somebody else as its own")
            head = self._watch.claimed(data)
            if head.size <= kept.size:
                await self._weigh(node, data, member)
                return None
            if self._full.get(node) == kept.taken:
                return None
            try:
                rest = await self._portions(member, page, head)
                if rest is None:
                    return None
                now = self._clock_s()
                hold = partial(self._watch.hold, node, data, rest, due=now + OWED_S, now=now)
                return await trio.to_thread.run_sync(hold)
            except RemoteError:
                with suppress(RemoteError):
                    await self._weigh(node, data, member)
                raise

    async def _portions(self, member: Member, page: Page, head: Checkpoint) -> list[Leaf] | None:
        """Take the leaves up to `head`, from `page` on, but for the last portion.

        None when there is no room for them.
        """
        kept = self._watch.kept(member.node)
        first = kept.taken
        if kept.size < first < head.size:
            await self._agree(member, first, head)
        while first < head.size:
            leaves, weight = await self._portion(member, page, first, head.size)
            if self._watch.kept(member.node).disk_bytes + weight > self._limits.mirror_bytes:
                self._tell_full(member, first)
                return None
            first += len(leaves)
            if first == head.size:
                return leaves
            await trio.to_thread.run_sync(self._watch.take, member.node, leaves)
            await self._agree(member, first, head)
            page = await self._ask(member, Ask(node=member.node, first=first), Page)
        return []

    async def _portion(
        self, member: Member, page: Page, first: int, size: int
    ) -> tuple[list[Leaf], int]:
        """The next leaves, from `page` on, and how many bytes they came in."""
        leaves: list[Leaf] = []
        weight = 0
        while True:
            if page.first != first + len(leaves):
                raise EncodingRefused("another page than was asked for")
            found = await trio.to_thread.run_sync(_read, page)
            if not found:
                raise ManifestRefused("a page without a leaf")
            leaves += found
            weight += len(page.frames)
            if weight >= PORTION_BYTES or first + len(leaves) >= size:
                return leaves[: size - first], weight
            page = await self._ask(member, Ask(node=member.node, first=first + len(leaves)), Page)

    async def _agree(self, member: Member, taken: int, head: Checkpoint) -> None:
        """Have a member show that what we took of its log leads on to `head`."""
        wanted = Prove(node=member.node, old=taken, size=head.size)
        told = await self._ask(member, wanted, Proven)
        await trio.to_thread.run_sync(self._watch.agree, member.node, told, head)

    def _tell_full(self, member: Member, entries: int) -> None:
        if member.node not in self._full:
            self._log.warning(
                "mirror.full", peer=member.name, entries=entries,
                limit_bytes=self._limits.mirror_bytes,
            )  # fmt: skip
        self._full[member.node] = entries


def _read(page: Page) -> list[Leaf]:
    return [leaf for _, leaf in mirror.read_page(page.frames, page.first)]
