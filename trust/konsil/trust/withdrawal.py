"""Withdrawn artifacts over several homes: who answered, in time, and whether it is true.

Whether a home's models descend from an artifact is told by its own entries, and by those of the
homes whose artifacts it took (`konsil.trust.descent`); an unlearning ends a line of descent only
where nothing else leads on. The newest entry of a log is the clock by which its owner is late.

Who withdraws leaves time to answer: a deadline before the withdrawal itself binds nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.trust.audited import Audited
    from konsil.trust.descent import Descent, Node
    from konsil.trust.office import Acknowledged, Withdrawn
    from konsil.trust.structure import Place

_REMOVED = ("removed_exact", "retrained", "rolled_back")
Answers = dict[tuple[str, int], list["Acknowledged"]]
"""A home's answers by the withdrawal that they name."""


def check_withdrawals(homes: Sequence[Audited], descent: Descent) -> None:
    """Holds every withdrawal against the answers; findings go to who must answer."""
    if not any(item.history.office.withdrawn or item.history.office.acknowledged for item in homes):
        return
    publishers: dict[str, Audited] = {}
    answers: list[Answers] = []
    for item in homes:
        publishers.setdefault(item.history.node, item)
        answers.append({})
        for ack in item.history.office.acknowledged:
            answers[-1].setdefault((ack.body.node, ack.body.index), []).append(ack)
    hidden = [sorted(item.history.office.hidden_answers) for item in homes]
    below: dict[bytes, set[Node]] = {}
    for publisher in publishers.values():
        for index, withdrawn in publisher.history.office.withdrawn.items():
            _check_deadline(publisher, withdrawn)
            art = withdrawn.body.art
            tainted = below[art] = below.get(art) or descent.from_artifact(art)
            for at, (item, told) in enumerate(zip(homes, answers, strict=True)):
                line = _Line(at, item, descent, tainted)
                acks = told.get((publisher.history.node, index), [])
                if item is not publisher and not acks and _is_hidden(item, withdrawn, hidden[at]):
                    continue
                _answered(item, publisher, withdrawn, acks)
                for ack in acks:
                    _check_claim(line, ack, art)
                _check_use(line, withdrawn, acks)
    for item in homes:
        _check_named(item, publishers)


class _Line:
    """What descends from a withdrawn artifact, as one home must know it."""

    def __init__(self, at: int, item: Audited, descent: Descent, tainted: set[Node]) -> None:
        self.at, self.item = at, item
        self._descent, self._tainted = descent, tainted

    def reaches(self, model: bytes) -> bool:
        """Whether the model descends from it."""
        return self._descent.teller(self.at, model) in self._tainted

    def made(self) -> set[bytes]:
        """The home's own models that do."""
        mine = self.item.history.made
        return {model for at, model in self._tainted if at == self.at and model in mine}

    def above_training(self) -> set[Node]:
        """What lies on a local training that went on from it."""
        mine = self.item.history.made
        return self._descent.below(
            (self.at, model)
            for model in self.made()
            if mine[model].trained and any(self.reaches(one) for one in mine[model].sources)
        )

    def lies_in(self, model: bytes, nodes: set[Node]) -> bool:
        """Whether the model is among these."""
        return self._descent.teller(self.at, model) in nodes


def _is_late_from_the_start(withdrawn: Withdrawn) -> bool:
    return withdrawn.body.deadline_ms < withdrawn.time_ms


def _is_hidden(item: Audited, withdrawn: Withdrawn, hidden: list[int]) -> bool:
    """Whether an answer that was redacted may be the one that is missing; it then is used up.

    `hidden` are the times of those that are left, the earliest first.
    """
    deadline = withdrawn.body.deadline_ms
    if item.history.last_ms <= deadline or not hidden or hidden[0] > deadline:
        return False
    del hidden[0]
    return True


def _check_deadline(publisher: Audited, withdrawn: Withdrawn) -> None:
    if _is_late_from_the_start(withdrawn):
        early = (withdrawn.time_ms - withdrawn.body.deadline_ms) // 1_000
        message = f"its answers were due {early} s before it was written"
        _add(publisher, "withdraw.deadline", withdrawn.place, message)


def _answered(
    item: Audited, publisher: Audited, withdrawn: Withdrawn, acks: Sequence[Acknowledged]
) -> None:
    """Every member whose log had begun answers by the deadline; the publisher need not."""
    history, deadline = item.history, withdrawn.body.deadline_ms
    if _is_late_from_the_start(withdrawn):
        return
    what = f"entry {withdrawn.place.index} of {publisher.history.node}"
    for ack in acks[:1]:
        if ack.time_ms > deadline:
            late = (ack.time_ms - deadline) // 1_000
            _add(item, "withdraw.late", ack.place, f"the answer to {what} came {late} s late")
    bound = history.node != publisher.history.node and history.begun_ms <= withdrawn.time_ms
    if bound and not acks and history.last_ms > deadline:
        message = f"no answer to the withdrawal in {what}"
        item.findings.add("withdraw.missing", item.structure.layout.folder, message)


def _check_claim(line: _Line, ack: Acknowledged, art: bytes) -> None:
    """Whether what was done can have been done."""
    body, item = ack.body, line.item
    if body.action == "refused" and body.legal is None:
        _add(item, "withdraw.claim", ack.place, "refused without a legal reason")
    if body.action == "not_used" and line.made() - {art}:
        _add(item, "withdraw.claim", ack.place, "not used, but models here were made from it")
    if body.action in _REMOVED and any(line.reaches(model) for model in body.after):
        _add(item, "withdraw.claim", ack.place, f"{body.action}, but the model descends from it")
    if body.action == "removed_exact" and body.before:
        above = line.above_training()
        if any(line.lies_in(model, above) for model in body.before):
            message = "removed_exact, but local training lies above it: nothing can take it out"
            _add(item, "withdraw.claim", ack.place, message)


def _check_use(line: _Line, withdrawn: Withdrawn, acks: Sequence[Acknowledged]) -> None:
    """No model in use descends from it after the deadline, or after a word that says so."""
    if any(ack.body.action == "refused" for ack in acks):
        return
    over = line.item.history.last_ms > withdrawn.body.deadline_ms
    if not acks and (not over or _is_late_from_the_start(withdrawn)):
        return
    for model, place in line.item.history.office.deployment.in_use.items():
        if line.reaches(model):
            message = f"{model.hex()[:16]}… is in use and descends from what was withdrawn"
            _add(line.item, "withdraw.deployed", place, message)


def _check_named(item: Audited, publishers: Mapping[str, Audited]) -> None:
    """An answer to a withdrawal that the publisher's log does not hold."""
    for ack in item.history.office.acknowledged:
        publisher = publishers.get(ack.body.node)
        if publisher is None or ack.place.index >= item.moment:
            continue
        if ack.body.index not in publisher.history.office.withdrawn:
            message = f"entry {ack.body.index} of {ack.body.node} withdraws nothing"
            _add(item, "withdraw.claim", ack.place, message)


def _add(item: Audited, code: str, place: Place, message: str) -> None:
    item.findings.add(code, place.file, message, offset=place.offset, index=place.index)
