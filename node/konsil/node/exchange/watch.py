"""Watch: what we know of the logs of other members, and what proves that one of them lied.

One `Watched` for each member that we met. What reads or writes a disk here is for threads; the
event loop may ask what lies in memory: `kept`, `exposed`, `suspects`, `questions`,
`newest_notes` and `whose`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from konsil.node.exchange.watched import Watched
from konsil.protocol import checkpoint, note
from konsil.protocol.errors import ManifestRefused, RemoteError
from konsil.protocol.mirror import MAX_NOTES, NOTES_BYTES, Leaf, Prove, Proven
from konsil.trust import witnessing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from konsil.node.roster import Roster
    from konsil.node.store.witnessed import Witnessed
    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.fork import OpenHead
    from konsil.protocol.limits import Limits
    from konsil.trust.witnessing import Known, Newer, Sight


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What we hold of a log: the newest note known, and the note over all that is mirrored."""

    newest: bytes = b""
    mirrored: bytes = b""
    size: int = 0
    taken: int = 0
    """Entries on our disk: behind `size` they wait for a signed root."""
    disk_bytes: int = 0


class Watch:
    """The logs of all other members that we met."""

    def __init__(self, roster: Roster, folder: Path, witnessed: Witnessed, limits: Limits) -> None:
        """Raises `StorageError` when a mirror cannot be read."""
        self._roster = roster
        self._folder = folder
        self._witnessed = witnessed
        self._limits = limits
        self._making = threading.Lock()
        self._logs: dict[str, Watched] = {}
        """Replaced as a whole under `_making`, so that anybody may go through it meanwhile."""
        self._telling = threading.Lock()
        self._next = 0
        for member in roster:
            if member.node != roster.me.node and roster.author(member.node) is not None:
                self._log(member.node)
        witnessed.compact({node: log.view.size for node, log in self._logs.items()})

    def newest_notes(self) -> tuple[bytes, ...]:
        """The newest checkpoint that we know of each member, as many as one message holds.

        Where they are more, the next call goes on behind the last.
        """
        logs = [log for _, log in sorted(self._logs.items())]
        with self._telling:
            states = [log.view.state for log in logs[self._next :] + logs[: self._next]]
            found: list[bytes] = []
            room = NOTES_BYTES
            for at, state in enumerate(states):
                data = b"" if state.held is None else state.held.note
                room -= len(data)
                if len(found) == MAX_NOTES or room < 0:
                    self._next = (self._next + at) % len(logs)
                    return tuple(found)
                if data:
                    found.append(data)
            return tuple(found)

    def kept(self, node: str) -> Kept:
        """What we hold of one member's log."""
        log = self._logs.get(node)
        if log is None:
            return Kept()
        view = log.view
        held = view.state.held
        return Kept(
            newest=b"" if held is None else held.note,
            mirrored=b"" if view.mirrored is None else view.mirrored.note,
            size=view.size,
            taken=view.taken,
            disk_bytes=view.disk_bytes,
        )

    def exposed(self, node: str) -> bytes | None:
        """The fork proof against a member, if there is one."""
        log = self._logs.get(node)
        return None if log is None else log.view.state.fork

    def forks(self) -> dict[str, bytes]:
        """All fork proofs, by node."""
        found = {node: log.view.state.fork for node, log in self._logs.items()}
        return {node: proof for node, proof in found.items() if proof is not None}

    def suspects(self, now: int) -> dict[str, bool]:
        """Who owes an answer at time `now`, and who does not; exposed members are left out."""
        states = {node: log.view.state for node, log in self._logs.items()}
        return {
            node: witnessing.remind(state, now).suspect
            for node, state in states.items()
            if state.fork is None
        }

    def questions(self) -> list[tuple[str, Newer]]:
        """What is open about anybody's log."""
        return [
            (node, question)
            for node, log in self._logs.items()
            for question in witnessing.questions(log.view.state)
        ]

    def whose(self, data: bytes) -> str | None:
        """The other member whose checkpoint this says to be; None for one of ours.

        Raises a `RemoteError` for what is no checkpoint, or that of no member.
        """
        origin = self.claimed(data).origin
        node = checkpoint.node_of(origin)
        if node == self._roster.me.node:
            return None
        if self._roster.node(node) is None or origin != f"{self._roster.consortium}/{node}":
            raise ManifestRefused(f"a checkpoint of {origin}, who is no member")
        return node

    def claimed(self, data: bytes) -> Checkpoint:
        """What a checkpoint says, by whomever. Raises a `RemoteError`."""
        return checkpoint.from_text(note.parse(data, limits=self._limits)[0])

    def leaves(self, node: str, first: int, count: int) -> list[Leaf]:
        """At most `count` mirrored entries of a member from `first` on."""
        log = self._logs.get(node)
        return [] if log is None else log.leaves(first, count)

    def prove(self, question: Prove) -> Proven:
        """Root and proof between two sizes of a log that we mirror."""
        log = self._logs.get(question.node)
        return Proven(root=None, hashes=()) if log is None else log.prove(question)

    def news(self, notes: Iterable[bytes]) -> list[bytes]:
        """Those of some checkpoints that say more of a log than we hold, each once."""
        return [data for data in dict.fromkeys(notes) if self._is_news(data)]

    def meet(self, node: str, data: bytes, *, due: int) -> Sight:
        """What follows from a checkpoint of `node`. See `Watched.meet`."""
        return self._log(node).meet(data, due=due)

    def settle(self, node: str, question: Newer, told: Proven, *, now: int) -> Sight:
        """What follows from somebody's answer. See `Watched.settle`."""
        return self._log(node).settle(question, told, now=now)

    def remember(self, node: str) -> None:
        """Keep what `node` owes, durably."""
        self._log(node).remember()

    def take(self, node: str, leaves: Sequence[Leaf]) -> None:
        """Put a portion of a log on our disk. See `Watched.take`."""
        self._log(node).take(leaves)

    def agree(self, node: str, told: Proven, head: Checkpoint) -> None:
        """Hold what was taken against the head that it is part of. See `Watched.agree`."""
        self._log(node).agree(told, head)

    def hold(
        self, node: str, data: bytes, rest: Sequence[Leaf] = (), *, due: int, now: int
    ) -> Sight:
        """Hold what was taken and the rest, up to a checkpoint. See `Watched.hold`."""
        log = self._log(node)
        try:
            return log.hold(data, rest, due=due, now=now)
        finally:
            self._roster.follow(log.view.ring)

    def get(self, origin: str) -> Known | None:
        """The newest checkpoint of a log that we vouched for; after a restart, that we accepted."""
        return self._log(checkpoint.node_of(origin)).get()

    def swap(self, origin: str, expected: Known | None, new: Known) -> bool:
        """Make `new` the newest that we vouched for. See `Watched.swap`."""
        return self._log(checkpoint.node_of(origin)).swap(expected, new)

    def believe(self, node: str, proof: bytes) -> None:
        """Take up a fork proof against `node` from our own ledger. See `Watched.believe`."""
        self._log(node).believe(proof)

    def reader(self, node: str) -> OpenHead:
        """What verifies checkpoints of a member that we met. Raises a `RemoteError`."""
        return self._log(node).reader()

    def _is_news(self, data: bytes) -> bool:
        try:
            node = self.whose(data)
            log = self._logs.get(node) if node else None
            return node is not None and (log is None or log.is_news(data))
        except RemoteError:
            return False

    def _log(self, node: str) -> Watched:
        """The log of a member, made on first sight. Raises `ManifestRefused` for a stranger."""
        with self._making:
            if node not in self._logs:
                author = self._roster.author(node)
                if author is None:
                    raise ManifestRefused(f"the genesis entry of {node} is not known here")
                log = Watched(author, self._folder, self._witnessed, self._limits)
                self._roster.follow(log.view.ring)
                self._logs = {**self._logs, node: log}
            return self._logs[node]
