"""What a node remembers of its own learning, told by its ledger alone.

After a crash, the ledger's entries replayed in order give the round, the model, the last
sequence and the standing of every peer; there is no second file that could disagree. While
running, the learner keeps the same facts up to date as it appends. A standing is of an
organisation and a kind of artifact: a new key, address or link changes nothing about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from konsil.protocol import records
from konsil.protocol.errors import IncompleteError
from konsil.protocol.learning_bodies import (
    ArtifactIntegrate,
    ArtifactPublish,
    ArtifactReceive,
    ModelBase,
    ModelTrain,
    TrustUpdate,
)
from konsil.protocol.limits import DEFAULT_LIMITS
from konsil.protocol.node_bodies import LogRedact
from konsil.trust import integrate, opinions, reasons, score
from konsil.trust.ageing import aged, day_of
from konsil.trust.contribution import Contribution
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
COURSE: Final = 32
"""Changes of trust in one peer that are kept at hand; all of them are in the ledger."""
OURS: Final = ""
"""The author of what this node itself published or began with."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Trust in a peer moved in an own round, and why, in words."""

    round: int
    old_e9: int
    new_e9: int
    why: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a peer: Beta evidence, trust (all in 1e-9), and an operator's word."""

    r_e9: int = 0
    s_e9: int = 0
    trust_e9: int = score.NEUTRAL_E9
    weight_e9: int = 0
    share_e9: int = 0
    contribution: Contribution = Contribution()
    """What its artifacts gave; no part of trust."""
    course: tuple[Change, ...] = ()
    """The last `COURSE` changes of trust, oldest first."""
    operator: str | None = None

    @property
    def score(self) -> score.Score:
        """The evidence alone."""
        return score.Score(r_e9=self.r_e9, s_e9=self.s_e9)

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

    def __init__(
        self, kind: Kind = PARAMETERS, evidence: Callable[[bytes], bytes] | None = None
    ) -> None:
        """`kind` is that of the artifacts that this node exchanges; `evidence` gives a stored
        blob by digest, and without it nobody's opinions are heard."""
        self.kind = kind
        self.begun_ms = 0
        """When the log began."""
        self.round = 0
        self.current = 1
        """The round in progress as the ledger tells it: the next one from the first judgement, or
        the mix, of a round on."""
        self.base: bytes | None = None
        self.model: bytes | None = None
        self.began: bytes | None = None
        """What the last training began with: what a release of the model is a change of."""
        self.source: bytes | None = None
        """What the ledger says that the model was made from: by training, or by a mix."""
        self.pending: Pending | None = None
        self.sequence = 0
        self.integrated = 0
        self.judged: set[tuple[str, bytes]] = set()
        self._standing: dict[tuple[str, str], Standing] = {}
        self._operator: dict[str, str | None] = {}
        self._author: dict[bytes, str] = {}
        self._evidence = evidence
        self._hearing = opinions.Hearing()
        self._day = 0

    def judged_as(self, kind: str) -> str:
        """The kind as which an artifact is judged here: our own where that takes it in, so that
        nobody leaves a bad name behind by handing in answers as the other kind of answers."""
        return self.kind if kind in integrate.alike(self.kind) else kind

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
        self.base = self.model = self.began = self.source = base
        self._author.setdefault(base, OURS)

    def published(self, sequence: int, art: bytes) -> None:
        """An artifact of ours is in the ledger."""
        self.sequence = max(self.sequence, sequence)
        self._author.setdefault(art, OURS)

    def received(self, art: bytes, publisher: str, index: int = 0, env: bytes = b"") -> None:
        """A peer's artifact is in the ledger, at entry `index`, in the envelope `env`."""
        self._author.setdefault(art, publisher)
        self._hearing.heard(index, publisher, env)

    def begun_round(self, index: int, time_ms: int) -> None:
        """A training is in the ledger, at entry `index`: what is known of peers ages with it, and
        only what they said before counts in its round."""
        self._hearing.trained(index)
        day = day_of(self.begun_ms, time_ms)
        if day <= self._day:
            return
        passed, self._day = day - self._day, day
        for key, standing in self._standing.items():
            left = aged(standing.score, passed)
            self._standing[key] = msgspec.structs.replace(
                standing, r_e9=left.r_e9, s_e9=left.s_e9, trust_e9=score.trust(left)
            )

    def trained(self, number: int, before: bytes, out: bytes) -> None:
        """A round of training is in the ledger; its mix is pending."""
        self.round = self.current = number
        self.model = out
        self.began = self.source = before
        self.pending = Pending(before=before, out=out)

    def direct(self) -> dict[tuple[str, str], int]:
        """Trust by node and kind where there is evidence, by that alone: our own opinions."""
        return {
            key: score.trust(standing.score)
            for key, standing in self._standing.items()
            if standing.r_e9 or standing.s_e9
        }

    def speakers(self) -> dict[str, bytes]:
        """The envelope by which each peer speaks of others to this round."""
        return self._hearing.speakers()

    def base_rates_e9(self, nodes: Iterable[str], speakers: dict[str, bytes]) -> dict[str, int]:
        """The base rates of peers by what the `speakers` say of them; reads their words.

        Neutral where the words of any of them are lost.
        """
        words = {env: opinions.spoken(env, self._blob, DEFAULT_LIMITS) for env in speakers.values()}
        rates = {}
        for node in nodes:
            said = opinions.opinions_on(
                node, self.kind, speakers, words.__getitem__, lambda by: self.standing(by).score
            )
            rates[node] = score.NEUTRAL_E9 if said is None else opinions.base_rate(said)
        return rates

    def _blob(self, digest: bytes) -> bytes | None:
        try:
            return None if self._evidence is None else self._evidence(digest)
        except IncompleteError:
            return None

    def settle(self) -> None:
        """The round ends with nothing to mix."""
        self.pending = None

    def judge(self, node: str, art: bytes, record: EvidenceRecord) -> None:
        """A judgement of a peer's artifact is in the ledger."""
        again = (node, art) in self.judged
        self.judged.add((node, art))
        self.current = self.round + 1
        known = self.standing(node, record.kind)
        self._standing[node, record.kind] = Standing(
            r_e9=record.r_after_e9,
            s_e9=record.s_after_e9,
            trust_e9=record.trust_e9,
            weight_e9=record.w_e9,
            share_e9=granted_e9(record),
            contribution=known.contribution if again else known.contribution.after(record),
            course=self._course(known, record.trust_before_e9, record.trust_e9, record),
        )

    def penalise(self, node: str, penalty: Penalty) -> None:
        """A refusal of the hard gate is in the ledger."""
        after = score.Score(r_e9=penalty.r_e9, s_e9=penalty.s_after_e9)
        before = score.Score(r_e9=penalty.r_e9, s_e9=penalty.s_before_e9)
        known = self._standing.get((node, penalty.kind), Standing())
        self._standing[node, penalty.kind] = msgspec.structs.replace(
            known,
            r_e9=after.r_e9,
            s_e9=after.s_e9,
            trust_e9=score.trust(after),
            course=self._course(known, score.trust(before), score.trust(after), penalty),
        )

    def _course(
        self, known: Standing, old_e9: int, new_e9: int, record: EvidenceRecord | Penalty
    ) -> tuple[Change, ...]:
        change = Change(round=self.round, old_e9=old_e9, new_e9=new_e9, why=reasons.moved(record))
        return (*known.course, change)[-COURSE:]

    def integrate(self, base: bytes, out: bytes) -> None:
        """A mix that made `out` of our own model `base` is in the ledger."""
        self.model, self.source, self.pending = out, base, None
        self.current = self.round + 1
        self.integrated += 1

    def operate(self, node: str, operator: str | None, index: int | None = None) -> None:
        """An operator's word about a peer is in the ledger, at entry `index`; None where the
        entry itself was lost, and with it what it meant for the peer's opinions."""
        self._operator[node] = operator
        if index is not None:
            self._hearing.told(index, node, hushed=gate_of(operator) == 0)

    def mixed(self, mixed: Mixed) -> None:
        """The judgements and the mix of a round are in the ledger."""
        for judged in mixed.judged:
            self.judge(judged.node, judged.art, records.unpack(judged.record, EvidenceRecord))
        if self.pending is not None and mixed.out != self.pending.out:
            self.integrate(self.pending.out, mixed.out)
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
    memory, unread = Memory(kind, evidence), _Unread()
    for entry in log:
        unread.read(entry)
        memory.begun_ms = memory.begun_ms or entry.ts
        body = entry.b
        if isinstance(body, ModelBase):
            memory.begin(body.model)
        elif isinstance(body, ModelTrain):
            memory.begun_round(entry.n, entry.ts)
            if has(body.out):
                memory.trained(body.round, body.base, body.out)
        elif isinstance(body, ArtifactPublish):
            memory.published(body.sequence, body.art)
        elif isinstance(body, ArtifactReceive):
            memory.received(body.art, body.publisher, entry.n, body.env)
        elif isinstance(body, ArtifactIntegrate) and has(body.out):
            memory.integrate(body.base, body.out)
        elif isinstance(body, TrustUpdate):
            _recall_trust(memory, entry.n, body, evidence)
    unread.until(size)
    memory.sequence += len(unread)
    return memory


def _recall_trust(
    memory: Memory, index: int, body: TrustUpdate, evidence: Callable[[bytes], bytes]
) -> None:
    if body.cause in OPERATOR_CAUSES:
        memory.operate(body.node, OPERATOR_CAUSES[body.cause], index)
    elif body.cause == PENALTY_CAUSE:
        memory.penalise(body.node, records.unpack(evidence(body.evidence), Penalty))
    elif body.art is not None:
        memory.judge(body.node, body.art, records.unpack(evidence(body.evidence), EvidenceRecord))
        # A round is judged once. The mix, if anything was granted, is the next entry; when a
        # crash cut it off, the node goes on from its own trained model.
        memory.settle()
