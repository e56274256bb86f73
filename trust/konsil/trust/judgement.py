"""Every weight of a log computed again from its evidence records.

A round's judgements stand as `trust.update` entries before the mix that used them. Each names
an evidence record; `konsil.trust.evidence` says what must follow from its measurements,
`konsil.trust.chain` what it must go on from, and the mix must use exactly those weights. The
measurements themselves can be repeated only inside the hospital. A round of which evidence is
missing is reported as incomplete, and nothing more is concluded from it. A redacted record may
have been the one that a part of the mix needs; it answers for no more than one part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import records
from konsil.protocol.errors import EncodingRefused, RemoteError
from konsil.trust import score
from konsil.trust.chain import Chain
from konsil.trust.evidence import EvidenceRecord, disagreements
from konsil.trust.gate import OPERATOR_CAUSES, PENALTY_CAUSE, Penalty
from konsil.trust.score import Score

if TYPE_CHECKING:
    from konsil.protocol.learning_bodies import ArtifactIntegrate, ModelTrain, TrustUpdate
    from konsil.trust.chain import Fault
    from konsil.trust.opinions import Said
    from konsil.trust.report import Findings
    from konsil.trust.structure import Place


class Judgements:
    """What a log says of trust; `chain` is to be told of models and refusals as they come."""

    def __init__(self, findings: Findings, said: Said) -> None:
        """`said` tells what an envelope says of peers."""
        self.chain = Chain(said)
        self._findings = findings
        self._round: dict[tuple[bytes, str], EvidenceRecord] = {}
        self._lost: set[tuple[bytes, str]] = set()
        self._hidden = 0
        """Records of this round that were redacted, and that no part has needed yet."""
        self._place: Place | None = None

    def trained(self, index: int, body: ModelTrain, day: int) -> None:
        """The next round begins at entry `index`, so many whole days after the log."""
        self.finish()
        self.chain.trained(index, body, day)

    def take(self, place: Place, body: TrustUpdate, data: bytes | None) -> None:
        """Reads one trust update: an operator's word, a refusal's penalty, or a judgement."""
        if body.cause == PENALTY_CAUSE:
            self._penalty(place, body, data)
        elif body.art is not None and body.cause not in OPERATOR_CAUSES:
            self._judgement(place, body, body.art, data)
        else:
            if body.cause in OPERATOR_CAUSES:
                self.chain.told(place.index, body.node, body.cause)
            if body.old_e9 != body.new_e9:
                message = f"trust in {body.node} moves by `{body.cause}`, without evidence"
                self._add("trust.evidence", place, message)

    def _penalty(self, place: Place, body: TrustUpdate, data: bytes | None) -> None:
        if data is None:
            self.chain.lost(body.node, body.kind)
            return
        try:
            penalty = records.unpack(data, Penalty)
            before = Score(r_e9=penalty.r_e9, s_e9=penalty.s_before_e9)
            after = score.penalised(before)
            stated = (body.node, body.art, body.kind, body.old_e9, body.new_e9, penalty.s_after_e9)
            trusts = (score.trust(before), score.trust(after))
            if stated != (penalty.node, None, penalty.kind, *trusts, after.s_e9):
                raise EncodingRefused("the penalty is not what its evidence comes to")
        except RemoteError as error:
            self._add("trust.evidence", place, error.message)
            self.chain.lost(body.node, body.kind)
            return
        self._report(place, self.chain.penalised(penalty, body.evidence))

    def _judgement(self, place: Place, body: TrustUpdate, art: bytes, data: bytes | None) -> None:
        if data is None:
            self._lost.add((art, body.node))
            self.chain.lost(body.node, body.kind)
            return
        try:
            record = records.unpack(data, EvidenceRecord)
            stated = (body.node, art, body.kind, body.old_e9, body.new_e9)
            shown = (record.node, record.art, record.kind, record.trust_before_e9, record.trust_e9)
            if stated != shown:
                raise EncodingRefused("the entry says something else than its evidence")
        except RemoteError as error:
            self._add("trust.evidence", place, error.message)
            self.chain.lost(body.node, body.kind)
            return
        key = (record.art, record.node)
        if key in self._round:
            self._add("trust.chain", place, f"{record.node} is judged twice in one round")
        self._report(place, self.chain.judged(record))
        self._round[key] = record
        self._place = place

    def mixed(self, place: Place, body: ArtifactIntegrate, node: str) -> None:
        """Holds the coefficients of a mix by `node` against the judgements before it."""
        self._report(place, self.chain.mixed(body, node))
        granted = {
            key: (record.w_e9, record.trust_e9)
            for key, record in self._round.items()
            if record.round == body.round and record.w_e9 > 0
        }
        for part in body.parts:
            if part.node == node or (part.art, part.node) in self._lost:
                continue
            follows = granted.pop((part.art, part.node), None)
            if follows is None and self._hidden and (part.art, part.node) not in self._round:
                self._hidden -= 1
                self._lost.add((part.art, part.node))
            elif follows != (part.w_e9, part.trust_e9):
                said = f"{part.node} got {part.w_e9}e-9 with trust {part.trust_e9}e-9"
                then = "no evidence gives it any" if follows is None else f"{follows} follows"
                self._add("integrate.weight", place, f"{said}, but {then}")
        for (_, other), (weight, _) in granted.items():
            self._add("integrate.weight", place, f"{other} was due {weight}e-9 and is left out")
        self._close(whole=True)

    def missed(self) -> None:
        """An entry cannot be read: nothing is concluded from what this round shares."""
        self._lost.add((b"", ""))

    def hidden(self) -> None:
        """The next record was redacted; it may have been about anybody."""
        self._hidden += 1
        self.chain.hidden()

    def finish(self) -> None:
        """The round ended without a mix: nothing was granted, or a crash cut its entries off."""
        self._close(whole=False)

    def _close(self, *, whole: bool) -> None:
        """Checks what the judgements of a round share."""
        if self._round:
            wrong = disagreements(tuple(self._round.values()), whole=whole)
            if wrong and self._place is not None and not (self._lost or self._hidden):
                self._add("trust.evidence", self._place, "; ".join(wrong[:3]))
        self._round, self._lost, self._hidden = {}, set(), 0

    def _report(self, place: Place, faults: list[Fault]) -> None:
        for code, message in faults:
            self._add(code, place, message)

    def _add(self, code: str, place: Place, message: str) -> None:
        self._findings.add(code, place.file, message, offset=place.offset, index=place.index)
