"""Regaining: our own entries back from the neighbours that kept them, one copy filled by another.

A neighbour shows its copy under our own signature, so nothing in it can be false; but it may keep
bodies to itself that it was given, and what is adopted without a body stays without. So every
neighbour that can be reached is asked first. Invariants: a body is taken from anybody, and is the
right one exactly when it has the hash of its leaf; nothing is adopted that does not lead to a root
that we signed; of one copy no more is in memory than about twice what was shown to lead there, and
what nobody shows to lead there is small. Times in seconds.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import trio

from konsil.node.exchange.asking import BROKEN
from konsil.node.exchange.questions import Questions
from konsil.protocol import checkpoint, merkle, mirror, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import (
    EncodingRefused,
    LimitExceeded,
    ManifestRefused,
    RemoteError,
    VerificationError,
)
from konsil.protocol.members import Member
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven
from konsil.protocol.node_bodies import LogRedact, NodeBoot, Span
from konsil.trust.hidden import explains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from konsil.node.exchange.asking import Lines
    from konsil.node.log import Log
    from konsil.node.store.journal import Journal
    from konsil.protocol.limits import Limits

LOOK_S = 0.05
OTHERS_S = 10.0
"""How long other neighbours are waited for while bodies are missing from the copies at hand."""
UNSIGNED_S = 60.0
"""How long one neighbour may take to show that its copy is under a signature of ours."""
PORTION_BYTES = 8 << 20
"""Bytes of frames after which a copy is first held against what we signed."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What one neighbour holds of our log beyond what we hold."""

    member: Member
    note: bytes
    """Its checkpoint of ours, not verified yet: the key may stand in the leaves."""
    leaves: tuple[Leaf, ...]


class Regaining:
    """Asks the neighbours for our own log, and adopts what they show."""

    def __init__(self, lines: Lines, me: str, journal: Journal, limits: Limits, log: Log) -> None:
        """`me` is the node id of the log."""
        self._ask = Questions(lines, limits).ask
        self._me = me
        self._journal = journal
        self._limits = limits
        self._log = log

    async def page(self, member: Member, first: int) -> Page:
        """What a neighbour holds of our log from entry `first` on, as far as it fits.

        Raises one of `BROKEN`, or a `RemoteError`.
        """
        told = await self._ask(member, Ask(node=self._me, first=first), Page)
        if told.first != first:
            raise EncodingRefused("another page than was asked for")
        return told

    def signed(self, held: bytes, leaves: list[Leaf]) -> Checkpoint | None:
        """What we signed for, in a checkpoint whose key is at hand or stands in `leaves`.

        A key of ours may be newer than this copy of the log. None when it is not ours, or the
        key is not known yet.
        """
        with suppress(RemoteError):
            return self._journal.open_ahead(held, leaves)
        with suppress(RemoteError):
            return checkpoint.open_checkpoint(
                held,
                origin=self._journal.author.origin,
                key=self._journal.keys["log"].public,
                limits=self._limits,
            )
        return None

    async def run(self, reachable: Callable[[], Iterable[Member]], neighbours: int) -> None:
        """Adopt the longest copy that anybody shows, with every body that anybody shows.

        Comes back with nothing done when nobody shows more than is here. Raises
        `VerificationError` when a copy is of another history that we signed, `ConfigError`
        when a key changed in it that is not at hand, and `StorageError`.
        """
        first = self._journal.size
        copies = await self._gather(reachable, neighbours, first)
        bodies = await trio.to_thread.run_sync(_bodies, copies)
        for copy in sorted(copies, key=lambda one: -len(one.leaves)):
            leaves = await trio.to_thread.run_sync(_filled, copy, bodies)
            if await self._adopt(copy, first, leaves):
                return

    async def _gather(
        self, reachable: Callable[[], Iterable[Member]], neighbours: int, first: int
    ) -> list[Copy]:
        """The copies of all who can be reached, or enough of them that no body is missing.

        Who cannot be reached is waited for a while only, whatever the others show. A copy that
        is under way is waited for until a genuine one is here.
        """
        copies: list[Copy] = []
        shared: dict[tuple[bytes, bool], Leaf] = {}
        asked: set[str] = set()
        done: set[str] = set()

        async def fetch(member: Member) -> None:
            copy = await self._fetch(member, first, shared)
            done.add(member.node)
            if copy is not None:
                copies.append(copy)

        async with trio.open_nursery() as nursery:
            deadline = patience = float("inf")
            looked_at, genuine = 0, list[list[Leaf]]()
            while trio.current_time() < deadline:
                for member in reachable():
                    if member.node not in asked:
                        asked.add(member.node)
                        nursery.start_soon(fetch, member)
                if len(copies) > looked_at:
                    looked_at = len(copies)
                    genuine = await trio.to_thread.run_sync(self._genuine, [*copies])
                if genuine and deadline == float("inf"):
                    deadline = trio.current_time() + OTHERS_S
                if genuine and all(leaf.entry for leaf in max(genuine, key=len)):
                    break
                if copies and patience == float("inf"):
                    patience = trio.current_time() + OTHERS_S
                waited = len(done) >= neighbours or trio.current_time() >= patience
                if asked == done and (waited or not copies):
                    break
                await trio.sleep(LOOK_S)
            nursery.cancel_scope.cancel()
        return copies

    def _genuine(self, copies: list[Copy]) -> list[list[Leaf]]:
        """The copies that lead to what we signed, each with every body that anybody shows.

        A forged one must not end the waiting for others.
        """
        bodies, found = _bodies(copies), list[list[Leaf]]()
        for copy in copies:
            leaves = _filled(copy, bodies)
            with suppress(RemoteError):
                if self._journal.leads(leaves, self._journal.open_ahead(copy.note, leaves)):
                    found.append(leaves)
        return found

    async def _fetch(
        self, member: Member, first: int, shared: dict[tuple[bytes, bool], Leaf]
    ) -> Copy | None:
        """One neighbour's copy from entry `first` on; None when it shows no more than is here.

        `shared` are leaves that other copies have too, so that each is in memory once.
        """
        try:
            page = await self.page(member, first)
            if not page.held:
                return None
            leaves = await self._leaves(member, page, shared)
        except RemoteError as error:
            self._log.warning("regaining.refused", peer=member.name, reason=error.message)
        except BROKEN as error:
            self._log.debug("regaining.broken", peer=member.name, reason=repr(error))
        else:
            if leaves:
                return Copy(member=member, note=page.held, leaves=tuple(leaves))
        return None

    async def _leaves(
        self, member: Member, page: Page, shared: dict[tuple[bytes, bool], Leaf]
    ) -> list[Leaf]:
        """The leaves of a copy from `page` on, up to its checkpoint.

        They end early where they do not agree with it: `_adopt` finds out why. Raises one of
        `BROKEN`, or a `RemoteError`.
        """
        held, first, leaves = page.held, page.first, list[Leaf]()
        size = checkpoint.from_text(note.parse(held, limits=self._limits)[0]).size
        head = self.signed(held, leaves)
        taken_bytes, look_at = 0, PORTION_BYTES
        with trio.fail_after(UNSIGNED_S) as scope:
            while first + len(leaves) < size:
                if head is not None:
                    scope.deadline = float("inf")
                if page.first != first + len(leaves):
                    page = await self.page(member, first + len(leaves))
                found = [leaf for _, leaf in mirror.read_page(page.frames, page.first)]
                if not found:
                    raise ManifestRefused("a page without a leaf")
                leaves += (shared.setdefault((one.leaf, one.entry is None), one) for one in found)
                taken_bytes += len(page.frames)
                if taken_bytes > self._limits.mirror_bytes:
                    raise LimitExceeded(f"{member.name} shows more than anybody keeps of a log")
                if head is None:
                    look_at = min(look_at, self._limits.unsigned_bytes)
                if taken_bytes < look_at or first + len(leaves) >= size:
                    continue
                look_at = 2 * taken_bytes
                head = head or await trio.to_thread.run_sync(self.signed, held, leaves)
                if head is not None:
                    if not await self._agrees(member, first, leaves, head):
                        break
                elif taken_bytes >= self._limits.unsigned_bytes:
                    raise LimitExceeded(f"{member.name} shows too much that no known key signed")
        return leaves[: size - first]

    async def _agrees(
        self, member: Member, first: int, leaves: list[Leaf], head: Checkpoint
    ) -> bool:
        """Whether our log and then `leaves` are the beginning of what we signed for."""
        taken = first + len(leaves)
        told = await self._ask(member, Prove(node=self._me, old=taken, size=head.size), Proven)
        if told.root is None:
            raise ManifestRefused(f"{member.name} cannot prove what it shows")
        merkle.verify_consistency(taken, head.size, told.hashes, told.root, head.root)
        so_far = Checkpoint(origin=head.origin, size=taken, root=told.root)
        return await trio.to_thread.run_sync(self._journal.leads, leaves, so_far)

    async def _adopt(self, copy: Copy, first: int, leaves: list[Leaf]) -> bool:
        """Whether the leaves, which begin at entry `first`, were adopted."""
        try:
            head = await trio.to_thread.run_sync(self._journal.open_ahead, copy.note, leaves)
            try:
                await trio.to_thread.run_sync(self._journal.adopt, leaves, head)
            except ManifestRefused:
                await self._other_history(copy.member, first, head)
                raise
        except RemoteError as error:
            self._log.warning("regaining.refused", peer=copy.member.name, reason=error.message)
            return False
        except BROKEN as error:
            self._log.debug("regaining.broken", peer=copy.member.name, reason=repr(error))
            return False
        gone = sum(leaf.entry is None for leaf in leaves)
        self._log.warning(
            "ledger.restored", peer=copy.member.name, entries=len(leaves), without_body=gone
        )
        return True

    async def _other_history(self, member: Member, size: int, held: Checkpoint) -> None:
        """Raises `VerificationError` when what we signed for does not go on from what is here."""
        told = await self._ask(member, Prove(node=self._me, old=size, size=held.size), Proven)
        if told.root is None:
            return
        merkle.verify_consistency(size, held.size, told.hashes, told.root, held.root)
        if told.root != await trio.to_thread.run_sync(self._journal.root_at, size):
            raise other_history(self._journal, member, held)


def other_history(journal: Journal, member: Member, head: Checkpoint) -> VerificationError:
    """What ends a start: a neighbour holds what this node signed for, and it is not this log."""
    return VerificationError(
        f"{journal.folder}: {member.name} holds {head.size} entries that this node signed"
        " for and that are not these",
        hint="this copy is not the log that was published: put the newest one back",
    )


def lost_bodies(journal: Journal) -> list[Span]:
    """The entries whose body is not here although no entry says why. Reads the whole log."""
    here: set[int] = set()
    told: set[int] = set()
    for entry in journal.entries():
        here.add(entry.n)
        if isinstance(entry.b, LogRedact) and explains(entry.b, entry.n):
            told.add(entry.b.index)
        elif isinstance(entry.b, NodeBoot):
            for span in entry.b.lost:
                told.update(range(span.first, min(span.last + 1, entry.n)))
    known = here | told
    return spans(index for index in range(journal.size) if index not in known)


def spans(indices: Iterable[int]) -> list[Span]:
    """Ascending numbers as spans."""
    found: list[Span] = []
    for index in indices:
        if found and found[-1].last == index - 1:
            found[-1] = Span(first=found[-1].first, last=index)
        else:
            found.append(Span(first=index, last=index))
    return found


def _bodies(copies: Iterable[Copy]) -> dict[bytes, bytes]:
    """Every body that anybody shows, by its leaf hash."""
    leaves = (leaf for copy in copies for leaf in copy.leaves)
    return {leaf.leaf: leaf.entry for leaf in leaves if leaf.entry is not None}


def _filled(copy: Copy, bodies: Mapping[bytes, bytes]) -> list[Leaf]:
    """The leaves of a copy with these bodies, found by their hashes."""
    return [Leaf(bodies.get(one.leaf), one.leaf) for one in copy.leaves]
