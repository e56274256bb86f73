"""One watched log: what we know of a member's log, which keys it signs with, what we mirror of it.

The conclusions are those of `konsil.trust.witnessing`; here they become durable before anybody
is told. The keys of a log stand in it, so a note over new leaves may be signed by a key that
only these leaves bring: leaves are taken first, the changes in them are followed (each signed
by the recovery key), the note is opened with the keys that result, and only then leaves, keys
and note count, together. What is taken never contradicts a checkpoint that we accepted: such
leaves are written only together with the signed root that makes the contradiction a fork proof.

One lock a log, held by threads that may wait for the disk. The event loop reads `view`, which
is replaced as a whole, and never takes the lock.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from konsil.node.store.mirrors import SUFFIX, Mirror
from konsil.node.store.owed import Owed
from konsil.protocol import checkpoint, merkle, note
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.keyring import Keyring
from konsil.protocol.mirror import Leaf, Prove, Proven
from konsil.trust import witnessing
from konsil.trust.witnessing import Known, Newer, Sight

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from konsil.node.store.mirrors import Change
    from konsil.node.store.witnessed import Witnessed
    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.fork import OpenHead
    from konsil.protocol.genesis import Author
    from konsil.protocol.limits import Limits


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a log at one moment."""

    state: witnessing.Watch
    ring: Keyring
    """The keys as far as the mirror goes."""
    mirrored: Known | None = None
    """The note over all that is held."""
    size: int = 0
    """How many entries are held."""
    taken: int = 0
    """How many are on our disk, held or not."""
    disk_bytes: int = 0


class Watched:
    """The log of one member that we met."""

    def __init__(self, author: Author, folder: Path, witnessed: Witnessed, limits: Limits) -> None:
        """Recalls what is in `folder`. Raises `StorageError` when it cannot be read."""
        self._author = author
        self._witnessed = witnessed
        self._limits = limits
        self._lock = threading.Lock()
        heads = witnessed.heads(author.node)
        self._mirror = Mirror(
            folder / f"{author.node}{SUFFIX}", {head.size: head.root for head, _ in heads}
        )
        self._owed = Owed(folder, author.node)
        ring = self._recalled_ring(Keyring.of(author))
        self._ahead = ring
        """The keys once all that is taken is held."""
        try:
            self._ahead = self._followed(ring, self._mirror.size, self._mirror.taken)
        except RemoteError:
            self._mirror.drop()
        held = self._newest(ring)
        self._vouched = held
        state = witnessing.Watch(origin=author.origin, held=held)
        self.view = View(state=state, ring=ring)
        self._publish(self._recalled(state), ring, self._newest(ring, self._mirror.size))

    def meet(self, data: bytes, *, due: int) -> Sight:
        """What follows from a checkpoint; a question is open until `due` (seconds).

        Raises a `RemoteError` for one that does not verify, and `StorageError`.
        """
        with self._lock:
            view, reader = self.view, self.reader()
            data = self._bare(data, view.ring)
            head = reader(data)
            if view.mirrored is not None and 0 < head.size <= view.mirrored.size:
                fresh = Known(note=data, head=head)
                state, sight = witnessing.compare(
                    view.state, fresh, view.mirrored, self._mirror.tree
                )
            else:
                state, sight = witnessing.watch(
                    view.state, data, reader, due=due, limits=self._limits
                )
            self._keep(state)
            return sight

    def is_news(self, data: bytes) -> bool:
        """Whether a checkpoint says more than we hold, as far as one can tell unread."""
        with self._lock:
            head = _claimed(data)
            state = self.view.state
            if state.fork is not None or (state.held is not None and state.held.head == head):
                return False
            return head.size > self._mirror.size or self._mirror.root(head.size) != head.root

    def settle(self, question: Newer, told: Proven, *, now: int) -> Sight:
        """What follows from somebody's answer. Raises a `RemoteError` when it shows nothing."""
        with self._lock:
            state = self.view.state
            held = None if state.held is None else state.held.size
            pending = question.from_size if question.to_size == held else question.to_size
            state, sight = witnessing.settle(state, pending, told.hashes, root=told.root, now=now)
            self._keep(state)
            return sight

    def remember(self) -> None:
        """Keep what is owed, durably: nobody at hand could answer. Raises `StorageError`."""
        with self._lock:
            self._owed.keep(_debts(self.view.state))

    def take(self, leaves: Sequence[Leaf]) -> None:
        """Put a portion of the log on our disk; it counts when a signed root covers it.

        Raises a `RemoteError` for a change of keys against the rules, or leaves that contradict
        a checkpoint that we accepted, and forgets what is not held; and `StorageError`.
        """
        with self._lock:
            try:
                ahead = follow(self._ahead, self._mirror.changes_in(leaves), self._limits)
                self._mirror.take(leaves, self._roots(ahead, len(leaves)))
            except RemoteError:
                self._drop()
                raise
            self._ahead = ahead
            self._publish(self.view.state, self.view.ring, self.view.mirrored)

    def agree(self, told: Proven, head: Checkpoint) -> None:
        """Go on only if what was taken is the beginning of the log under `head`.

        Else forgets what is not held. Raises `ManifestRefused`, and `StorageError`.
        """
        with self._lock:
            taken = self._mirror.taken
            try:
                root = self._mirror.root(taken)
                merkle.verify_consistency(taken, head.size, told.hashes, root, head.root)
            except ManifestRefused:
                self._drop()
                raise

    def hold(self, data: bytes, rest: Sequence[Leaf] = (), *, due: int, now: int) -> Sight:
        """Hold what was taken and the `rest`, up to the checkpoint `data`, and say what follows.

        Raises a `RemoteError` when the leaves do not lead there, or no key that they leave in
        force signed it, and forgets what is not held; and `StorageError`.
        """
        with self._lock:
            view = self.view
            try:
                fresh = self._mirror.changes_in(rest)
                ahead = follow(self._ahead, fresh, self._limits)
                changes = [*self._mirror.changes, *fresh]
                ring = self._followed(view.ring, view.size, _claimed(data).size, changes)
                bare = self._bare(data, ring)
                head = ring.open_checkpoint(bare, limits=self._limits)
                self._mirror.take(rest, {head.size: head.root})
                self._mirror.hold(head)
            except RemoteError:
                self._drop()
                raise
            self._ahead = ahead
            state = view.state
            if ring is not view.ring:
                # What a revoked key signed is void, whatever we thought of it.
                state = witnessing.reread(state, self.reader(ring), now=now)
            known = Known(note=bare, head=head)
            state, sight = witnessing.hold(
                state, known, self._mirror.tree, due=due, now=now, limits=self._limits
            )
            if state.fork is not None:
                self._owed.expose(state.fork)  # before the other side of it is forgotten
            self._witnessed.forget(self._author.node, self._wrong(ring))
            self._witnessed.add(bare, mirrored=True)
            if self._vouched is not None and not self._bears(ring, self._vouched.note):
                self._vouched = self._newest(ring)
            self._keep(state, ring, known)
            return sight

    def leaves(self, first: int, count: int) -> list[Leaf]:
        """At most `count` of the entries that are held, from `first` on."""
        with self._lock:
            return self._mirror.leaves(first, count)

    def prove(self, question: Prove) -> Proven:
        """Root and proof between two sizes that are held."""
        with self._lock:
            if not 0 < question.old <= question.size <= self._mirror.size:
                return Proven(root=None, hashes=())
            hashes = self._mirror.consistency(question.old, question.size)
            return Proven(root=self._mirror.root(question.old), hashes=tuple(hashes))

    def get(self) -> Known | None:
        """The newest checkpoint that we vouched for; after a restart, that we accepted."""
        with self._lock:
            return self._vouched

    def swap(self, expected: Known | None, new: Known) -> bool:
        """Make `new` the newest that we vouched for, durably, if `expected` still is.

        Raises `ManifestRefused` unless we hold what it signs for.
        """
        with self._lock:
            if self._vouched != expected:
                return False
            if new.size > self._mirror.size or self._mirror.root(new.size) != new.head.root:
                origin = self._author.origin
                raise ManifestRefused(f"{new.size} entries of {origin} are not those we hold")
            self._witnessed.add(self._bare(new.note, self.view.ring))
            self._vouched = new
            return True

    def believe(self, proof: bytes) -> None:
        """Take up a fork proof that our own ledger says exposed the log.

        It was verified before it was written there: no key that was revoked since, and no mirror
        that was lost since, takes that back. Raises a `RemoteError` for one of another log.
        """
        with self._lock:
            self._keep(witnessing.recall(self.view.state, proof))

    def reader(self, ring: Keyring | None = None) -> OpenHead:
        """What verifies checkpoints of the log, with the keys that it has now."""
        return partial((ring or self.view.ring).open_checkpoint, limits=self._limits)

    def _keep(
        self, state: witnessing.Watch, ring: Keyring | None = None, mirrored: Known | None = None
    ) -> None:
        """The new state, once what it knows is durable."""
        if state.fork is not None:
            self._owed.expose(state.fork)
        if state.held is not None and state.held != self.view.state.held:
            self._make_way(state.held)
            self._witnessed.add(state.held.note)
        if self._owed.debts:
            self._owed.keep([one for one in self._owed.debts if one in _debts(state)])
        self._publish(state, ring or self.view.ring, mirrored or self.view.mirrored)

    def _publish(self, state: witnessing.Watch, ring: Keyring, mirrored: Known | None) -> None:
        self.view = View(
            state=state,
            ring=ring,
            mirrored=mirrored,
            size=self._mirror.size,
            taken=self._mirror.taken,
            disk_bytes=self._mirror.disk_bytes,
        )

    def _make_way(self, fresh: Known) -> None:
        """Forget what was taken, if it contradicts what is to be accepted."""
        if (
            self._mirror.size < fresh.size <= self._mirror.taken
            and self._mirror.root(fresh.size) != fresh.head.root
            and self._bears(self._ahead, fresh.note)
        ):
            self._drop()

    def _roots(self, ring: Keyring, count: int) -> dict[int, bytes]:
        """The accepted roots at the next sizes, by size, where these keys bear them."""
        heads = self._witnessed.heads(self._author.node)
        return {
            head.size: head.root
            for head, data in heads
            if 0 < head.size - self._mirror.taken <= count and self._bears(ring, data)
        }

    def _drop(self) -> None:
        self._mirror.drop()
        self._ahead = self.view.ring
        self._publish(self.view.state, self.view.ring, self.view.mirrored)

    def _recalled_ring(self, first: Keyring) -> Keyring:
        """The keys as far as the mirror goes; a mirror without one of them is asked for again."""
        try:
            ring = self._followed(first, 0, self._mirror.size)
            if self._mirror.size and self._newest(ring, self._mirror.size) is None:
                raise ManifestRefused("its keys do not bear the checkpoint that it leads to")
        except RemoteError:
            self._mirror.forget()
            return first
        return ring

    def _recalled(self, state: witnessing.Watch) -> witnessing.Watch:
        """The state with the evidence of an earlier life, as far as it still verifies."""
        for due, data in self._owed.debts:
            try:
                state, _ = witnessing.watch(state, data, self.reader(), due=due)
            except RemoteError:
                continue
        if self._owed.fork is None:
            return state
        # What exposed it was signed when nobody had revoked anything, and exposes it for good.
        ring = self.view.ring
        changes = sorted({period.since - 1 for period in ring.periods if period.since})
        for then in (ring, *map(ring.before, changes)):
            with suppress(RemoteError):
                return witnessing.believe(state, self._owed.fork, self.reader(then))
        return state  # damaged, or by a key that is to be learned again

    def _wrong(self, ring: Keyring) -> set[Checkpoint]:
        """The accepted checkpoints that these keys do not bear, or that the held tree denies."""
        last = 0 if self.view.mirrored is None else self.view.mirrored.size
        return {
            head
            for head, data in self._witnessed.heads(self._author.node)
            if (ring is not self.view.ring and not self._bears(ring, data))
            or (last < head.size <= self._mirror.size and self._mirror.root(head.size) != head.root)
        }

    def _newest(self, ring: Keyring, size: int | None = None) -> Known | None:
        """The largest accepted checkpoint that these keys bear, or the one of this size."""
        heads = self._witnessed.heads(self._author.node)
        for head, data in sorted(heads, key=lambda one: one[0].size, reverse=True):
            if size in (None, head.size) and self._bears(ring, data):
                return Known(note=data, head=head)
        return None

    def _bears(self, ring: Keyring, data: bytes) -> bool:
        try:
            ring.open_checkpoint(data, limits=self._limits)
        except RemoteError:
            return False
        return True

    def _followed(
        self, ring: Keyring, begin: int, end: int, changes: Iterable[Change] | None = None
    ) -> Keyring:
        """The keys after the changes in the leaves [begin, end). Raises a `RemoteError`."""
        among = self._mirror.changes if changes is None else changes
        return follow(ring, (item for item in among if begin <= item.index < end), self._limits)

    def _bare(self, data: bytes, ring: Keyring) -> bytes:
        """A checkpoint without the lines of others, which anybody may have written under it."""
        origin = self._author.origin
        text, lines = note.parse(data, limits=self._limits)
        logs = [period.key for period in ring.periods if period.role == "log"]
        known = {(origin, note.NoteKey(origin, key).key_id) for key in logs}
        own = [one.text for one in lines if (one.name, one.key_id) in known]
        return "".join((text, "\n", *own)).encode() if own else data


def follow(ring: Keyring, changes: Iterable[Change], limits: Limits) -> Keyring:
    """The keys of a log after these entries of it. Raises a `RemoteError` for one against the
    rules."""
    for item in changes:
        ring = ring.follow(item.index, item.entry, limits)
    return ring


def _claimed(data: bytes) -> Checkpoint:
    """What a note says, by whomever. Raises a `RemoteError`."""
    return checkpoint.from_text(note.parse(data)[0])


def _debts(state: witnessing.Watch) -> list[tuple[int, bytes]]:
    return [(item.due, item.known.note) for item in state.pending]
