"""Vouching: before the first signature, do our peers hold more of our log than we do?

A home that came back from a backup, or a cloned machine, would sign a second history under the
old sizes without meaning to. So a start asks every neighbour that it reaches for the newest
checkpoint of ours that it knows. Nothing but our own signature counts: a peer can neither hold
us up with a size that it cannot show, nor hide from us what another one shows. What a key signed
that this log has revoked there vouches where it is about these entries, and proves nothing where
it is not: it is a thief's, and whoever shows it has answered.

- nobody shows more than we hold: go on;
- somebody shows more: take the missing leaves from whoever holds them (`regaining`), under our
  own signed root; bodies that nobody shows are lost, and the log says so (`node.boot`);
- somebody shows another history: stop (exit 3), nothing is signed.

Times in seconds.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import trio

from konsil.node.exchange.asking import BROKEN
from konsil.node.exchange.regaining import Regaining, lost_bodies, other_history
from konsil.node.learning.learner import LOOK_AT
from konsil.protocol import checkpoint, note
from konsil.protocol.errors import RemoteError, SignatureRefused
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

LOOK_S = 0.05
SECOND_OPINION_S = 1.0
"""How long a second neighbour is waited for once one has answered."""
AGAIN_S = 1.0
TELL_S = 10.0
"""Nobody has vouched for so long: time to tell a person."""
SPANS = 1024
"""Spans of lost entries that one `node.boot` has room for; more of them take more entries."""


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
        self._roster = roster
        self._journal = journal
        self._limits = limits
        self._log = log
        self._regaining = Regaining(lines, roster.me.node, journal, limits, log)
        self._said: dict[str, int] = {}
        self._floor = journal.cosigned_size
        self._owed = 0
        # Who answered with what a thief signed for, and cannot say more.
        self._misled: set[str] = set()
        # Who shows what we cannot read yet: the key may stand in entries that we lack.
        self._unread: dict[str, bool] = {}

    async def run(self, neighbours: int, patience_s: float) -> Vouched:
        """Ask until somebody vouches for us, and a little longer; at most `patience_s`.

        Raises `VerificationError` when a peer shows a history of ours that is not ours,
        `ConfigError` when what comes back needs a key that is not at hand, and `StorageError`.
        """
        with trio.move_on_after(patience_s):
            await self._listen(min(2, neighbours))
            while any(self._unread.values()):
                await self._catch_up(neighbours)
                await self._listen(min(2, neighbours))
        await self._catch_up(neighbours)
        if not self._said and neighbours:
            self._log.warning("ledger.unvouched", patience_s=patience_s)
        peers = [PeerSize(node=node, size=size) for node, size in sorted(self._said.items())]
        # Told by the log itself, so that a stop between taking back and saying so is no harm.
        lost = await trio.to_thread.run_sync(lost_bodies, self._journal)
        return Vouched(peers=peers, lost=lost)

    async def _listen(self, enough: int) -> None:
        """Ask until so many have answered, or one has and a little time has passed."""
        deadline, tell_at = float("inf"), trio.current_time() + TELL_S
        while self._heard() < enough and trio.current_time() < deadline:
            await self._round()
            if not self._heard() and trio.current_time() > tell_at:
                tell_at = float("inf")
                self._log.warning("ledger.waiting", hint=LOOK_AT)
            if self._heard() and deadline == float("inf"):
                deadline = trio.current_time() + SECOND_OPINION_S
            await trio.sleep(LOOK_S)

    def _heard(self) -> int:
        """Neighbours that know at least what was cosigned, since others cannot vouch for us,
        those that a thief misled, and those that show what we have yet to learn to read."""
        known = sum(
            size >= self._floor or node in self._misled for node, size in self._said.items()
        )
        return known + sum(self._unread.values())

    async def _catch_up(self, neighbours: int) -> None:
        """Do not go on while less is here than we signed for."""
        told = False
        while self._journal.size < self._owed or any(self._unread.values()):
            # Tried once: whoever shows what nobody can read must not hold us up for ever.
            self._unread = dict.fromkeys(self._unread, False)
            await self._regaining.run(self._reachable, neighbours)
            if self._journal.size >= self._owed:
                continue
            if not told:
                self._log.error("ledger.behind", here=self._journal.size, signed=self._owed)
                told = True
            await trio.sleep(AGAIN_S)
            self._said.clear()
            await self._round()
        if not self._said:
            await self._round()  # what came back may say how to read them

    def _reachable(self) -> list[Member]:
        members = (self._roster.peer(peer) for peer in sorted(self._transport.connected()))
        return [member for member in members if member is not None]

    async def _round(self) -> None:
        for member in self._reachable():
            if self._said.get(member.node, -1) < self._floor:
                try:
                    await self._ask(member)
                except RemoteError as error:
                    self._log.warning("vouching.refused", peer=member.name, reason=error.message)
                except BROKEN as error:
                    self._log.debug("vouching.broken", peer=member.name, reason=repr(error))

    async def _ask(self, member: Member) -> None:
        """What one neighbour knows of our log, held against what is here."""
        page = await self._regaining.page(member, self._journal.size)
        shown = dict.fromkeys(data for data in (page.note, page.held) if data)
        try:
            heads = await trio.to_thread.run_sync(self._opened, [*shown], member)
        except SignatureRefused:
            stated = checkpoint.from_text(note.parse(page.held, limits=self._limits)[0])
            if stated.size > self._journal.size:
                self._unread.setdefault(member.node, True)
                if self._regaining.signed(page.held, []) is not None:
                    self._owed = max(self._owed, stated.size)
            raise
        self._owed = max([self._owed, *(head.size for head in heads)])
        (self._misled.discard if len(heads) == len(shown) else self._misled.add)(member.node)
        # What it mirrors it may believe a moment later.
        self._said[member.node] = max((head.size for head in heads), default=0)

    def _opened(self, shown: list[bytes], member: Member) -> list[Checkpoint]:
        """The heads in what a peer shows, without those of a thief. Reads the disk."""
        heads: list[Checkpoint] = []
        for data in shown:
            try:
                head = self._journal.open_checkpoint(data)
            except SignatureRefused:
                void = self._void(data)
                if void is None:
                    raise
                if not self._is_ours(void):
                    if member.node not in self._misled:
                        self._log.warning("vouching.void", peer=member.name, size=void.size)
                    continue
                head = void
            # What we signed for, as a peer remembers it, must be what we hold.
            if head.size <= self._journal.size and not self._is_ours(head):
                self._log.error("ledger.forked", peer=member.name, note=data.decode())
                raise other_history(self._journal, member, head)
            heads.append(head)
        return heads

    def _void(self, data: bytes) -> Checkpoint | None:
        """What a revoked key signed for, though it counts no more; None when none did."""
        ring = self._journal.keyring
        for period in ring.periods:
            if period.role == "log" and period.void_from is not None:
                with suppress(SignatureRefused):
                    return checkpoint.open_checkpoint(
                        data, origin=ring.author.origin, key=period.key, limits=self._limits
                    )
        return None

    def _is_ours(self, head: Checkpoint) -> bool:
        size = self._journal.size
        return head.size <= size and self._journal.root_at(head.size) == head.root
