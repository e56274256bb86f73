"""Logs in memory for tests of those who watch them: signed as a test wants, also against the rules.

A log answers questions as its owner would. `Wires` stands in for `Lines`: it asks whoever of some
members is reachable, and counts what it asked.
"""

from __future__ import annotations

import random

from konsil.node.config import ConsortiumSection, NodeConfig, NodeSection
from konsil.node.roster import Roster
from konsil.node.transports.memory_stream import MemoryStream, Pipe
from konsil.protocol import checkpoint, entries, genesis, merkle, mirror, note
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.errors import UnreachableError
from konsil.protocol.identity import KeySet, SigningKey, peer_id
from konsil.protocol.keyring import Keyring
from konsil.protocol.members import Member
from konsil.protocol.merkle import leaf_hash
from konsil.protocol.mirror import Ask, Leaf, Page, Prove, Proven, Seen
from konsil.protocol.node_bodies import key_change
from konsil.protocol.office_bodies import PolicyLocal

CONSORTIUM = "alps"


class SignedLog:
    """One member's log; copies that go on differently are forks of it."""

    def __init__(self, name: str) -> None:
        self.draw = random.Random(name)
        self.name = name
        self.keys = KeySet.generate(self.draw.randbytes)
        self.leaves: list[Leaf] = []
        self.tree = merkle.Tree()
        self.log_keys = [(0, self.keys["log"])]
        self.reachable = True
        self.shows: list[bytes] = []
        """Checkpoints of others that it shows whoever visits it."""
        self.knows: dict[str, SignedLog] = {}
        """Logs of others that it can prove something about."""
        self.signed: int | None = None
        self.add(genesis.build(name=name, consortium=CONSORTIUM, keys=self.keys))
        self.author = genesis.read(self.leaves[0].entry)
        self.node = self.author.node
        self.ring = Keyring.of(self.author)
        self.member = Member(
            name=name, node=self.node, peer=peer_id(self.keys["peer"].public.raw), addresses=()
        )

    @property
    def size(self) -> int:
        return self.tree.size

    def add(self, *bodies) -> None:
        for body in bodies:
            entry = entries.entry(
                body, index=self.size, time_ms=self.size, salt=self.draw.randbytes(16),
                charter=bytes(32),
            )  # fmt: skip
            data = entries.encode(entry)
            self.leaves.append(Leaf(data, leaf_hash(data)))
            self.tree.append(leaf_hash(data))

    def grow(self, count: int = 1) -> SignedLog:
        self.add(*(PolicyLocal(policy=self.draw.randbytes(32), version=1) for _ in range(count)))
        return self

    def change(self, kind, role, *, good=None, rec=None) -> SigningKey:
        """A change of key (`KeyRotate`, `KeyRevoke`); one that `rec` forges is written as well."""
        new = SigningKey.from_seed(self.draw.randbytes(32))
        fields = {
            "role": role, "old": self.keys[role].public.raw, "new": new.public.raw,
            "reason": "planned", "last_good_size": self.size if good is None else good,
        }  # fmt: skip
        message = key_change(self.node, kind(**fields, by_rec=bytes(64), by_new=bytes(64)))
        by_rec = (rec or self.keys["rec"]).sign(message)
        body = kind(**fields, by_rec=by_rec, by_new=new.sign(message))
        if rec is None:
            self.ring = self.ring.after(self.size, body)
        self.add(body)
        if role == "log":
            self.log_keys.append((self.size, new))
        self.keys = KeySet({**self.keys.keys, role: new})
        return new

    def head(self, size: int | None = None) -> Checkpoint:
        size = self.size if size is None else size
        return Checkpoint(origin=self.author.origin, size=size, root=self.tree.root(size))

    def note(self, size: int | None = None, *signers: SigningKey) -> bytes:
        """A checkpoint, by the key of its time unless told otherwise."""
        head = self.head(size)
        current = [key for since, key in self.log_keys if since <= head.size][-1]
        return note.sign(
            checkpoint.to_text(head), [(head.origin, key) for key in signers or [current]]
        )

    def fork(self, size: int) -> SignedLog:
        """A copy of the first `size` entries, of the same owner."""
        other = SignedLog(self.name)
        other.draw = random.Random(f"{self.name} again")
        other.leaves = self.leaves[:size]
        other.tree = merkle.Tree(item.leaf for item in other.leaves)
        other.keys, other.log_keys = self.keys, list(self.log_keys)
        return other

    def answer(self, data: bytes) -> bytes:
        return mirror.pack(self._answer(mirror.read_question(data)))

    def _answer(self, question):
        if isinstance(question, Seen):
            return Seen(notes=tuple(self.shows))
        log = self if question.node == self.node else self.knows.get(question.node)
        if isinstance(question, Prove):
            if log is None or question.size > log.size:
                return Proven(root=None, hashes=())
            return Proven(
                root=log.tree.root(question.old),
                hashes=tuple(log.tree.consistency(question.old, question.size)),
            )
        assert isinstance(question, Ask)
        if log is None:
            return Page(note=b"", held=b"", size=0, first=question.first, frames=b"")
        shown = self.note(self.signed)
        leaves = log.leaves[question.first : question.first + 64]
        return Page(
            note=shown, held=shown, size=log.size, first=question.first, frames=mirror.page(leaves)
        )


class Wires:
    """`Lines` to some logs."""

    def __init__(self, *logs: SignedLog) -> None:
        self.logs = {log.member.peer: log for log in logs}
        self.asked = []
        self.breaks_after = None
        """So many questions are answered, then the link is lost."""

    async def ask(self, peer: str, protocol: str, data: bytes) -> bytes:
        log = self.logs.get(peer)
        if self.breaks_after is not None:
            self.breaks_after -= 1
        if log is None or not log.reachable or self.breaks_after == -1:
            raise UnreachableError("nobody is there")
        self.asked.append((log.name, mirror.read_question(data)))
        return log.answer(data)

    def count(self, kind) -> int:
        return sum(isinstance(question, kind) for _, question in self.asked)


def roster_of(folder, me: SignedLog, *others: SignedLog, strangers=()) -> Roster:
    """The roster of `me`, who has met the others, and not the strangers."""
    members = tuple(one.member for one in (me, *others, *strangers))
    config = NodeConfig(
        node=NodeSection(name=me.name), consortium=ConsortiumSection(name=CONSORTIUM),
        members=members,
    )  # fmt: skip
    roster = Roster(config, folder)
    for one in others:
        roster.learn(one.leaves[0].entry, one.member.peer)
    return roster


def line_ends() -> tuple[MemoryStream, MemoryStream]:
    """The two ends of one stream."""
    there, back = Pipe(), Pipe()
    return (
        MemoryStream(there, back, lambda *_: None),
        MemoryStream(back, there, lambda *_: None),
    )
