"""Watch: what we know of the logs of other members, and what proves that one of them lied.

The conclusions are those of `konsil.trust.witnessing`; here are the state of each log, made
durable before anybody is told, and the mirrors that answer for it. Threads may look while the
event loop changes things: every access is under one lock.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from konsil.node.store.mirrors import SUFFIX, Mirror
from konsil.protocol import checkpoint, fork, note
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.mirror import MAX_NOTES, Leaf, Prove, Proven
from konsil.trust import witnessing
from konsil.trust.witnessing import Known, Newer, Sight

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from konsil.node.roster import Roster
    from konsil.node.store.witnessed import Witnessed
    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.fork import OpenHead
    from konsil.protocol.genesis import Author
    from konsil.protocol.limits import Limits


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What we hold of a log: the newest note known, and the note over all that is mirrored."""

    newest: bytes = b""
    mirrored: bytes = b""
    size: int = 0


class Watch:
    """The logs of all other members that we met."""

    def __init__(self, roster: Roster, folder: Path, witnessed: Witnessed, limits: Limits) -> None:
        """Raises `StorageError` when a mirror cannot be read."""
        self._roster = roster
        self._folder = folder
        self._witnessed = witnessed
        self._limits = limits
        self._lock = threading.RLock()
        self._states: dict[str, witnessing.Watch] = {}
        self._mirrors: dict[str, Mirror] = {}
        self._mirrored: dict[str, bytes] = {}
        self._vouched: dict[str, Known] = {}
        for member in roster:
            if member.node != roster.me.node and roster.author(member.node) is not None:
                self._state(member.node)

    def newest_notes(self) -> tuple[bytes, ...]:
        """The newest checkpoint that we know of each member."""
        with self._lock:
            held = (state.held for state in self._states.values())
            return tuple(known.note for known in held if known is not None)[:MAX_NOTES]

    def kept(self, node: str) -> Kept:
        """What we hold of one member's log."""
        with self._lock:
            state, mirrored = self._states.get(node), self._mirrored.get(node, b"")
            held = None if state is None else state.held
            return Kept(
                newest=b"" if held is None else held.note,
                mirrored=mirrored,
                size=self._mirrors[node].size if mirrored else 0,
            )

    def exposed(self, node: str) -> bytes | None:
        """The fork proof against a member, if there is one."""
        state = self._states.get(node)
        return None if state is None else state.fork

    def suspects(self, now: int) -> dict[str, bool]:
        """Who owes an answer at time `now`, and who does not; exposed members are left out."""
        with self._lock:
            for node, state in self._states.items():
                self._states[node] = witnessing.remind(state, now)
            return {
                node: state.suspect for node, state in self._states.items() if state.fork is None
            }

    def leaves(self, node: str, first: int, count: int) -> list[Leaf]:
        """At most `count` mirrored entries of a member from `first` on."""
        with self._lock:
            mirror = self._mirrors.get(node)
            if mirror is None:
                return []
            return [leaf for _, leaf in zip(range(count), mirror.leaves(first), strict=False)]

    def prove(self, question: Prove) -> Proven:
        """Root and proof between two sizes of a log that we mirror."""
        with self._lock:
            mirror = self._mirrors.get(question.node)
            if mirror is None or not 0 < question.old <= question.size <= mirror.size:
                return Proven(root=None, hashes=())
            hashes = mirror.consistency(question.old, question.size)
            return Proven(root=mirror.root(question.old), hashes=tuple(hashes))

    def whose(self, data: bytes) -> str | None:
        """The other member whose checkpoint this says to be; None for one of ours.

        Raises a `RemoteError` for what is no checkpoint, or that of no member.
        """
        origin = checkpoint.from_text(note.parse(data, limits=self._limits)[0]).origin
        node = origin.rpartition("/")[2]
        if node == self._roster.me.node:
            return None
        if self._roster.node(node) is None or origin != f"{self._roster.consortium}/{node}":
            raise ManifestRefused(f"a checkpoint of {origin}, who is no member")
        return node

    def is_news(self, data: bytes) -> bool:
        """Whether a checkpoint says more of a log than we hold, as far as one can tell unread."""
        try:
            node = self.whose(data)
            head = checkpoint.from_text(note.parse(data, limits=self._limits)[0])
        except RemoteError:
            return False
        with self._lock:
            state = self._states.get(node) if node else None
            if state is None or state.held is None:
                return node is not None
            mirror = self._mirrors[state.origin.rpartition("/")[2]]
            if head.size <= mirror.size and mirror.root(head.size) == head.root:
                return False
            return state.fork is None and state.held.head != head

    def meet(self, node: str, data: bytes, *, due: int) -> Sight:
        """What follows from a checkpoint of `node`; a question is open until `due` (seconds).

        Raises a `RemoteError` for one that does not verify, and `StorageError`.
        """
        data = self._bare(node, data)
        with self._lock:
            state = self._state(node)
            state, sight = witnessing.watch(
                state, data, self.reader(node), due=due, limits=self._limits
            )
            self._keep(node, state)
            return sight

    def settle(self, node: str, question: Newer, told: Proven, *, now: int) -> Sight:
        """What follows from somebody's answer. Raises a `RemoteError` when it shows nothing."""
        with self._lock:
            state = self._state(node)
            held = None if state.held is None else state.held.size
            pending = question.from_size if question.to_size == held else question.to_size
            state, sight = witnessing.settle(state, pending, told.hashes, root=told.root, now=now)
            self._keep(node, state)
            return sight

    def extend(self, node: str, leaves: Sequence[Leaf], data: bytes, head: Checkpoint) -> None:
        """Mirror more of a log, up to a checkpoint that was met.

        Raises `ManifestRefused` when the leaves do not lead there, and `StorageError`.
        """
        data = self._bare(node, data)
        with self._lock:
            state = self._state(node)
            mirror = self._mirrors[node]
            mirror.extend(leaves, head)
            # What was owed is answered by the leaves themselves, where they agree.
            open_ = [
                item
                for item in state.pending
                if item.known.size > mirror.size
                or mirror.root(item.known.size) != item.known.head.root
            ]
            self._states[node] = msgspec.structs.replace(state, pending=tuple(open_))
            self._witnessed.add(data)
            self._mirrored[node] = data

    def open(self, node: str, data: bytes) -> Checkpoint:
        """The verified head in a note of `node`. Raises a `RemoteError`."""
        return self.reader(node)(data)

    def get(self, origin: str) -> Known | None:
        """The newest checkpoint of a log that we vouched for; after a restart, that we accepted."""
        with self._lock:
            return self._vouched.get(origin.rpartition("/")[2])

    def swap(self, origin: str, expected: Known | None, new: Known) -> bool:
        """Make `new` the newest that we vouched for, durably, if `expected` still is.

        Raises `ManifestRefused` unless we hold what it signs for.
        """
        node = origin.rpartition("/")[2]
        with self._lock:
            mirror = self._mirrors.get(node)
            if self._vouched.get(node) != expected:
                return False
            if mirror is None or new.size > mirror.size or mirror.root(new.size) != new.head.root:
                raise ManifestRefused(f"{new.size} entries of {origin} are not those we hold")
            self._witnessed.add(new.note)
            self._vouched[node] = new
            return True

    def believe(self, node: str, proof: bytes) -> None:
        """Keep a fork proof against `node`. Raises a `RemoteError` when it proves nothing."""
        with self._lock:
            self._states[node] = witnessing.believe(self._state(node), proof, self.reader(node))

    def _keep(self, node: str, state: witnessing.Watch) -> None:
        """The new state, once what it knows is durable."""
        if state.held is not None and state.held != self._states[node].held:
            self._witnessed.add(state.held.note)
        self._states[node] = state

    def _state(self, node: str) -> witnessing.Watch:
        if node not in self._states:
            author = self._known_author(node)
            heads = self._witnessed.heads(node)
            newest = max(heads, key=lambda one: one[0].size, default=None)
            held = None if newest is None else Known(note=newest[1], head=newest[0])
            self._states[node] = witnessing.Watch(origin=author.origin, held=held)
            if held is not None:
                self._vouched[node] = held
            mirror = Mirror(
                self._folder / f"{node}{SUFFIX}", {head.size: head.root for head, _ in heads}
            )
            self._mirrors[node] = mirror
            for head, data in heads:
                if mirror.size == head.size:
                    self._mirrored[node] = data
        return self._states[node]

    def reader(self, node: str) -> OpenHead:
        """What verifies checkpoints of a member that we met."""
        author = self._known_author(node)
        return fork.open_with(origin=author.origin, key=author.keys["log"], limits=self._limits)

    def _bare(self, node: str, data: bytes) -> bytes:
        """A checkpoint without the lines of others, which anybody may have written under it."""
        author = self._known_author(node)
        text, lines = note.parse(data, limits=self._limits)
        key_id = note.NoteKey(author.origin, author.keys["log"]).key_id
        own = [one.text for one in lines if (one.name, one.key_id) == (author.origin, key_id)]
        return "".join((text, "\n", *own)).encode() if own else data

    def _known_author(self, node: str) -> Author:
        author = self._roster.author(node)
        if author is None:
            raise ManifestRefused(f"the genesis entry of {node} is not known here")
        return author
