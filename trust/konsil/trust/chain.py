"""What one log said so far that its next record of trust has to go on from.

One score for each node and kind, which ages with the days between trainings, the operator's
words, the newest training, what others said before it, and who had each payload first. A record
is held against them and then taken as it stands, so that one false step is one finding. Where
evidence is missing, nothing is concluded from it; behind a redacted record, of which nobody can
say whose it was, each score and each word is taken as it comes next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.trust import score, weights
from konsil.trust.ageing import aged
from konsil.trust.gate import OPERATOR_CAUSES, gate_of
from konsil.trust.opinions import Hearing, Opinion, base_rate, opinions_on
from konsil.trust.score import Score

if TYPE_CHECKING:
    from konsil.protocol.learning_bodies import ArtifactIntegrate, ArtifactReject, ModelTrain
    from konsil.trust.evidence import EvidenceRecord
    from konsil.trust.gate import Penalty
    from konsil.trust.opinions import Said

Fault = tuple[str, str]
"""A finding's code and what is wrong, in words."""


class Chain:
    """Feed it a log in order; the methods that take a record return what is wrong with it."""

    def __init__(self, said: Said) -> None:
        """`said` tells what an envelope says of peers."""
        self.hearing = Hearing()
        self.opinions: tuple[Opinion, ...] = ()
        """Those behind the base rate of the newest judgement."""
        self._said = said
        self._day = 0
        self._standing: dict[tuple[str, str], Score | None] | None = None
        """The scores before the first judgement of the round."""
        self._scores: dict[tuple[str, str], Score | None] = {}
        self._words: dict[str, str | None] = {}
        self._gates: dict[str, set[int | None] | None] = {}
        self._hidden = False
        """Whether a record was redacted: what nothing has told since is not known."""
        self._authors: dict[bytes, str] = {}
        self._training: ModelTrain | None = None
        self._refusals: dict[bytes, ArtifactReject] = {}

    def trained(self, index: int, body: ModelTrain, day: int) -> None:
        """A round begins at entry `index`, so many days after the log; from now on only the
        operator's last word about each node counts, and only what was said before."""
        self._training, self._standing = body, None
        self.hearing.trained(index)
        if day > self._day:
            passed, self._day = day - self._day, day
            for key, known in self._scores.items():
                self._scores[key] = None if known is None else aged(known, passed)
        self._gates = {node: {gate_of(word)} for node, word in self._words.items()}

    def hidden(self) -> None:
        """The next record was redacted: any score, or any word, may have changed."""
        self._hidden = True
        self._scores, self._words, self._gates = {}, {}, {}

    def had(self, art: bytes, node: str) -> None:
        """`node` has this payload; whoever had it first is its author."""
        self._authors.setdefault(art, node)

    def refused(self, body: ArtifactReject) -> None:
        """A refusal, which may cost trust."""
        if body.evidence is not None:
            self._refusals[body.evidence] = body

    def told(self, index: int, node: str, cause: str) -> None:
        """An operator's word. What it replaces may still count in the round that is under way."""
        word = self._words[node] = OPERATOR_CAUSES[cause]
        self.hearing.told(index, node, hushed=gate_of(word) == 0)
        gates = self._gates.setdefault(node, None if self._hidden else {None})
        if gates is not None:
            gates.add(gate_of(word))

    def lost(self, node: str, kind: str) -> None:
        """A record is missing or says nothing: where the score stands now is not known."""
        self.opinions = ()
        self._scores[node, kind] = None

    def penalised(self, penalty: Penalty, evidence: bytes) -> list[Fault]:
        """A penalty with the digest `evidence`, sound in itself."""
        found = self._step(
            (penalty.node, penalty.kind),
            Score(r_e9=penalty.r_e9, s_e9=penalty.s_before_e9),
            Score(r_e9=penalty.r_e9, s_e9=penalty.s_after_e9),
        )
        refusal = self._refusals.pop(evidence, None)
        said = (penalty.node, penalty.stage, list(penalty.reasons), penalty.env)
        if refusal is None:
            found.append(("trust.refusal", f"no refusal before it costs {penalty.node} trust"))
        elif said != (refusal.publisher, refusal.stage, refusal.reasons, refusal.env):
            found.append(("trust.refusal", "the refusal before it says something else"))
        return found

    def judged(self, record: EvidenceRecord) -> list[Fault]:
        """A judgement; that it is sound in itself is checked elsewhere."""
        node, key = record.node, (record.node, record.kind)
        if self._standing is None:
            self._standing = dict(self._scores)
        found = self._step(
            key,
            Score(r_e9=record.r_before_e9, s_e9=record.s_before_e9),
            Score(r_e9=record.r_after_e9, s_e9=record.s_after_e9),
        )
        found += self._based(record)
        gates = self._gates.get(node, None if self._hidden else {None})
        if gates is not None and record.pinned_e9 not in gates:
            message = f"{node}: no operator's word sets the gate to {record.pinned_e9}"
            found.append(("trust.operator", message))
        begun = self._training
        made = None if begun is None else (begun.round, begun.base, begun.out)
        if made != (record.round, record.before, record.trained):
            found.append(("trust.training", f"{node}: not the round and models trained before"))
        mine = (record.before, record.trained)
        share = weights.share(record.art, mine, copied=self._authors.get(record.art, node) != node)
        if record.share_e9 != share:
            message = f"{node}: share_e9 is {record.share_e9}, but {share} follows"
            found.append(("trust.share", message))
        return found

    def _based(self, record: EvidenceRecord) -> list[Fault]:
        """A base rate is neutral, or what others said before the round's training makes it."""
        self.opinions = ()
        if record.base_rate_e9 == score.NEUTRAL_E9 or self._hidden:
            return []  # what was redacted may have been the word that hushed one of the speakers
        standing, unknown = self._standing or {}, Score()
        said = opinions_on(
            record.node,
            record.kind,
            self.hearing.speakers(),
            self._said,
            lambda by: standing.get((by, record.kind), unknown),
        )
        if said is None:
            return []
        self.opinions, follows = said, base_rate(said)
        if record.base_rate_e9 == follows:
            return []
        message = f"{record.node}: base_rate_e9 is {record.base_rate_e9}, but {follows} follows"
        return [("trust.chain", f"{message} from what {len(said)} others said")]

    def mixed(self, body: ArtifactIntegrate, node: str) -> list[Fault]:
        """A mix by `node`, whose log this is."""
        begun, own = self._training, [part.art for part in body.parts if part.node == node]
        made = None if begun is None else (begun.round, begun.out, [begun.out])
        first = body.parts[0].node if body.parts else None
        if made == (body.round, body.base, own) and first == node:
            return []  # what is not summed comes from the first part
        return [("trust.training", "what is mixed into is not the model trained before")]

    def _step(self, key: tuple[str, str], before: Score, after: Score) -> list[Fault]:
        """The score of `key` goes on from `before` to `after`."""
        known = self._scores.get(key, None if self._hidden else Score())
        self._scores[key] = after
        if known is None or known == before:
            return []
        said, left = (f"({one.r_e9}, {one.s_e9})" for one in (before, known))
        message = f"{key[0]}: (r_before, s_before) is {said}, but {left} was left of it"
        return [("trust.chain", message)]
