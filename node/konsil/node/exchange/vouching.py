"""Vouching: before the first signature, do our peers hold more of our log than we do?

A home that came back from a backup, or a cloned machine, would sign a second history under the
old sizes without meaning to. So a start asks every neighbour that it reaches for the newest
checkpoint of ours that it knows. Nothing but our own signature counts: a peer can neither hold
us up with a size that it cannot show, nor hide from us what another one shows.

- nobody shows more than we hold: go on;
- somebody shows more: take the missing leaves from whoever holds them, under our own signed
  root; bodies that were only ours are lost, and the log says so (`node.boot`);
- somebody shows another history: stop (exit 3), nothing is signed.

Times in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from konsil.node.exchange.asking import BROKEN
from konsil.node.transports.transport import MIRROR_PROTOCOL
from konsil.protocol import merkle, mirror
from konsil.protocol.errors import (
    EncodingRefused,
    ManifestRefused,
    RemoteError,
    VerificationError,
)
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven
from konsil.protocol.node_bodies import PeerSize, Span

if TYPE_CHECKING:
    from konsil.node.exchange.asking import Lines
    from konsil.node.log import Log
    from konsil.node.roster import Roster
    from konsil.node.store.journal import Journal
    from konsil.node.transports.transport import Transport
    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.limits import Limits
    from konsil.protocol.members import Member

Asking = Callable[[bytes], Awaitable[bytes]]
"""Sends a question and gives the answer."""
LOOK_S = 0.05
SECOND_OPINION_S = 1.0
"""How long a second neighbour is waited for once one has answered."""
AGAIN_S = 1.0


class Vouched(msgspec.Struct, frozen=True, kw_only=True):
    """What the peers said of our log, and what we lost of it."""

    peers: list[PeerSize]
    lost: list[Span]


class Vouching:
    """Asks once, at the start; `run` returns when the log may be signed on."""

    def __init__(
        self,
        transport: Transport,
        lines: Lines,
        roster: Roster,
        journal: Journal,
        limits: Limits,
        log: Log,
    ) -> None:
        self._transport = transport
        self._lines = lines
        self._roster = roster
        self._journal = journal
        self._limits = limits
        self._log = log
        self._said: dict[str, int] = {}
        self._floor = journal.cosigned_size
        self._lost: list[Span] = []
        self._owed = 0

    async def run(self, neighbours: int, patience_s: float) -> Vouched:
        """Ask until somebody vouches for us, and a little longer; at most `patience_s`.

        Raises `VerificationError` when a peer shows a history of ours that is not ours, and
        `StorageError`.
        """
        with trio.move_on_after(patience_s):
            enough = min(2, neighbours)
            deadline = float("inf")
            while self._heard() < enough and trio.current_time() < deadline:
                await self._round()
                if self._heard() and deadline == float("inf"):
                    deadline = trio.current_time() + SECOND_OPINION_S
                await trio.sleep(LOOK_S)
        await self._catch_up()
        if not self._said and neighbours:
            self._log.warning("ledger.unvouched", patience_s=patience_s)
        peers = [PeerSize(node=node, size=size) for node, size in sorted(self._said.items())]
        return Vouched(peers=peers, lost=self._lost)

    def _heard(self) -> int:
        """Neighbours that know at least what was cosigned; others cannot vouch for us."""
        return sum(size >= self._floor for size in self._said.values())

    async def _catch_up(self) -> None:
        """Do not go on while less is here than we signed for."""
        told = False
        while self._journal.size < self._owed:
            if not told:
                self._log.error("ledger.behind", here=self._journal.size, signed=self._owed)
                told = True
            await trio.sleep(AGAIN_S)
            self._said.clear()
            await self._round()

    async def _round(self) -> None:
        for peer in self._transport.connected():
            member = self._roster.peer(peer)
            if member is not None and self._said.get(member.node, -1) < self._floor:
                try:
                    await self._ask(member)
                except RemoteError as error:
                    self._log.warning("vouching.refused", peer=member.name, reason=error.message)
                except BROKEN as error:
                    self._log.debug("vouching.broken", peer=member.name, reason=repr(error))

    async def _ask(self, member: Member) -> None:
        """One neighbour's answer; with it, if it holds more than we do, our missing leaves."""
        ask = partial(self._lines.ask, member.peer, MIRROR_PROTOCOL)
        page = await self._page(ask, self._journal.size)
        newest = self._head(page.note)
        if newest is not None:
            self._hold_against(newest, page.note, member)
        held = self._head(page.held)
        if held is not None and held.size > self._journal.size:
            await self._take(ask, page, held, member)
        # What it mirrors it may believe a moment later.
        self._said[member.node] = max((one.size for one in (newest, held) if one), default=0)

    async def _page(self, ask: Asking, first: int) -> Page:
        question = mirror.pack(Ask(node=self._roster.me.node, first=first))
        answer = mirror.read_answer(await ask(question), limits=self._limits)
        if not isinstance(answer, Page) or answer.first != first:
            raise EncodingRefused("another answer than was asked for")
        return answer

    def _head(self, note: bytes) -> Checkpoint | None:
        """A checkpoint of ours that a peer shows; None for none. Raises a `RemoteError`."""
        return self._journal.open_checkpoint(note) if note else None

    async def _other_history(
        self, ask: Asking, size: int, held: Checkpoint, member: Member
    ) -> None:
        """Raises `VerificationError` when what we signed for does not go on from what is here."""
        question = Prove(node=self._roster.me.node, old=size, size=held.size)
        told = mirror.read_answer(await ask(mirror.pack(question)), limits=self._limits)
        if not isinstance(told, Proven) or told.root is None:
            return
        merkle.verify_consistency(size, held.size, told.hashes, told.root, held.root)
        if told.root != self._journal.root_at(size):
            raise self._not_these(held, member)

    def _hold_against(self, head: Checkpoint, note: bytes, member: Member) -> None:
        """What we signed for, as a peer remembers it, must be what we hold."""
        self._owed = max(self._owed, head.size)
        if head.size <= self._journal.size and self._journal.root_at(head.size) != head.root:
            self._log.error("ledger.forked", peer=member.name, note=note.decode())
            raise self._not_these(head, member)

    def _not_these(self, head: Checkpoint, member: Member) -> VerificationError:
        return VerificationError(
            f"{self._journal.folder}: {member.name} holds {head.size} entries that this node signed"
            " for and that are not these",
            hint="this copy is not the log that was published: put the newest one back",
        )

    async def _take(self, ask: Asking, page: Page, held: Checkpoint, member: Member) -> None:
        """The leaves from our size to `held`, adopted once they lead to its signed root."""
        first, leaves = page.first, list[Leaf]()
        while first + len(leaves) < held.size:
            found = [leaf for _, leaf in mirror.read_page(page.frames, first + len(leaves))]
            if not found:
                raise ManifestRefused("a page without a leaf")
            leaves += found
            if first + len(leaves) < held.size:
                page = await self._page(ask, first + len(leaves))
        leaves = leaves[: held.size - first]
        try:
            await trio.to_thread.run_sync(self._journal.adopt, leaves, held)
        except ManifestRefused:
            await self._other_history(ask, first, held, member)
            raise
        lost = _spans([first + at for at, leaf in enumerate(leaves) if leaf.entry is None])
        self._lost += lost
        missing = sum(span.last - span.first + 1 for span in lost)
        self._log.warning(
            "ledger.restored", peer=member.name, entries=len(leaves), without_body=missing
        )


def _spans(indices: list[int]) -> list[Span]:
    """Consecutive numbers as spans."""
    found: list[Span] = []
    for index in indices:
        if found and found[-1].last == index - 1:
            found[-1] = Span(first=found[-1].first, last=index)
        else:
            found.append(Span(first=index, last=index))
    return found
