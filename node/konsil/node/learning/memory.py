"""What a node remembers of its own learning, told by its ledger alone.

After a crash, the ledger's entries replayed in order give the round, the model, the last
sequence and the standing of every peer; there is no second file that could disagree. While
running, the learner keeps the same facts up to date as it appends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from konsil.protocol import records
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
    TrustUpdate,
)
from konsil.protocol.node_bodies import LogRedact
from konsil.trust import score
from konsil.trust.evidence import EvidenceRecord
from konsil.trust.fixed import UNIT_E9
from konsil.trust.gate import OPERATOR_CAUSES as OPERATOR_CAUSES
from konsil.trust.gate import PENALTY_CAUSE, Penalty, gate_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from konsil.node.learning.worker_messages import Mixed
    from konsil.protocol.artifact import Kind
    from konsil.protocol.entries import Entry

PARAMETERS: Final[Kind] = "parameters"
OURS: Final = ""
"""The author of what this node itself published or began with."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a peer: Beta evidence, trust (all in 1e-9), and an operator's word."""

    r_e9: int = 0
    s_e9: int = 0
    trust_e9: int = score.NEUTRAL_E9
    weight_e9: int = 0
    share_e9: int = 0
    operator: str | None = None

    @property
    def gate_e9(self) -> int | None:
        """The gate that an operator set by hand; None leaves it to the evidence."""
        return gate_of(self.operator)


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A trained round whose mix has not happened yet."""

    before: bytes
    out: bytes


class Memory:
    """The state of the learner; every change of it follows an entry in the ledger."""

    def __init__(self, kind: Kind = PARAMETERS) -> None:
        """`kind` is that of the artifacts that this node exchanges."""
        self.kind = kind
        self.round = 0
        self.base: bytes | None = None
        self.model: bytes | None = None
        self.pending: Pending | None = None
        self.sequence = 0
        self.integrated = 0
        self.judged: set[tuple[str, bytes]] = set()
        self._standing: dict[tuple[str, str], Standing] = {}
        self._operator: dict[str, str | None] = {}
        self._author: dict[bytes, str] = {}

    @property
    def current(self) -> int:
        """The number of the round in progress; between two rounds, that of the next."""
        return self.round if self.pending is not None else self.round + 1

    def standing(self, node: str, kind: str | None = None) -> Standing:
        """What is known of a peer's artifacts of one kind, by default of the one exchanged; a
        newcomer's standing is neutral.

        An operator's word is about the peer, whatever the kind.
        """
        found = self._standing.get((node, kind or self.kind), Standing())
        return msgspec.structs.replace(found, operator=self._operator.get(node))

    def copied(self, art: bytes, node: str) -> bool:
        """Did another author than `node`, or this node itself, have this payload first?"""
        return self._author.get(art, node) != node

    def begin(self, base: bytes) -> None:
        """The common base model is known."""
        self.base = self.model = base
        self._author.setdefault(base, OURS)

    def published(self, sequence: int, art: bytes) -> None:
        """An artifact of ours is in the ledger."""
        self.sequence = max(self.sequence, sequence)
        self._author.setdefault(art, OURS)

    def received(self, art: bytes, publisher: str) -> None:
        """A peer's artifact is in the ledger."""
        self._author.setdefault(art, publisher)

    def trained(self, number: int, before: bytes, out: bytes) -> None:
        """A round of training is in the ledger; its mix is pending."""
        self.round, self.model = number, out
        self.pending = Pending(before=before, out=out)

    def settle(self) -> None:
        """The round ends with nothing to mix."""
        self.pending = None

    def judge(self, node: str, art: bytes, record: EvidenceRecord) -> None:
        """A judgement of a peer's artifact is in the ledger."""
        self.judged.add((node, art))
        self._standing[node, record.kind] = Standing(
            r_e9=record.r_after_e9,
            s_e9=record.s_after_e9,
            trust_e9=record.trust_e9,
            weight_e9=record.w_e9,
            share_e9=granted_e9(record),
        )

    def penalise(self, node: str, penalty: Penalty) -> None:
        """A refusal of the hard gate is in the ledger."""
        after = score.Score(r_e9=penalty.r_e9, s_e9=penalty.s_after_e9)
        self._standing[node, penalty.kind] = msgspec.structs.replace(
            self._standing.get((node, penalty.kind), Standing()),
            r_e9=after.r_e9,
            s_e9=after.s_e9,
            trust_e9=score.trust(after),
        )

    def integrate(self, out: bytes) -> None:
        """A mix is in the ledger."""
        self.model, self.pending = out, None
        self.integrated += 1

    def operate(self, node: str, operator: str | None) -> None:
        """An operator's word about a peer is in the ledger."""
        self._operator[node] = operator

    def mixed(self, mixed: Mixed) -> None:
        """The judgements and the mix of a round are in the ledger."""
        for judged in mixed.judged:
            self.judge(judged.node, judged.art, records.unpack(judged.record, EvidenceRecord))
        if self.pending is not None and mixed.out != self.pending.out:
            self.integrate(mixed.out)
        self.settle()


def granted_e9(record: EvidenceRecord) -> int:
    """w_ij / W_ij of a judgement: the share of the topology's own weight that was granted."""
    return record.w_e9 * UNIT_E9 // record.metropolis_e9 if record.metropolis_e9 else 0


class _Unread:
    """How many numbers may have been given out in entries whose bodies are lost.

    Our numbers grow with our log. So a body that is lost in front of a publication that is here
    had a smaller number, and one behind the last such publication took at most the next one.
    """

    def __init__(self) -> None:
        self._next = 0
        self._gone: set[int] = set()

    def __len__(self) -> int:
        return len(self._gone)

    def read(self, entry: Entry) -> None:
        """The next entry whose body is here."""
        self.until(entry.n)
        self._next = entry.n + 1
        if isinstance(entry.b, ArtifactPublish):
            self._gone.clear()
        elif isinstance(entry.b, LogRedact):
            self._gone.discard(entry.b.index)  # no publication is ever redacted

    def until(self, size: int) -> None:
        """No body is here between the last one and entry `size`."""
        self._gone.update(range(self._next, size))


def recall(
    log: Iterable[Entry],
    evidence: Callable[[bytes], bytes],
    has: Callable[[bytes], bool],
    size: int,
    kind: Kind = PARAMETERS,
) -> Memory:
    """The memory that a ledger's entries tell; `evidence` gives a stored blob by digest.

    `log` are the entries whose bodies are here, of `size` in all. Those that are lost count as
    publications, so that no number is ever given out twice, whatever a neighbour withheld.

    `has` says whether a model is still in the store: a log that came back from peers names
    models that did not, and the node goes on from the newest one that it holds.
    """
    memory, unread = Memory(kind), _Unread()
    for entry in log:
        unread.read(entry)
        body = entry.b
        if isinstance(body, ModelBase):
            memory.begin(body.model)
        elif isinstance(body, ModelTrain) and has(body.out):
            memory.trained(body.round, body.base, body.out)
        elif isinstance(body, ArtifactPublish):
            memory.published(body.sequence, body.art)
        elif isinstance(body, ArtifactReceive):
            memory.received(body.art, body.publisher)
        elif isinstance(body, ArtifactIntegrate) and has(body.out):
            memory.integrate(body.out)
        elif isinstance(body, TrustUpdate):
            _recall_trust(memory, body, evidence)
    unread.until(size)
    memory.sequence += len(unread)
    return memory


def _recall_trust(memory: Memory, body: TrustUpdate, evidence: Callable[[bytes], bytes]) -> None:
    if body.cause in OPERATOR_CAUSES:
        memory.operate(body.node, OPERATOR_CAUSES[body.cause])
    elif body.cause == PENALTY_CAUSE:
        memory.penalise(body.node, records.unpack(evidence(body.evidence), Penalty))
    elif body.art is not None:
        memory.judge(body.node, body.art, records.unpack(evidence(body.evidence), EvidenceRecord))
        # A round is judged once. The mix, if anything was granted, is the next entry; when a
        # crash cut it off, the node goes on from its own trained model.
        memory.settle()
