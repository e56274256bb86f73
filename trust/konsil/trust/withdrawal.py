"""Withdrawn artifacts over several homes: who answered, in time, and whether it is true.

What was made from an artifact is told by the entries of all given homes together; an
unlearning ends a line of descent only where nothing else leads on. The newest entry of a log
is the clock by which its owner is late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from konsil.trust.office import Acknowledged, Withdrawn
    from konsil.trust.others import Audited
    from konsil.trust.structure import Place

_REMOVED = ("removed_exact", "retrained", "rolled_back")
Descent = dict[bytes, set[bytes]]
"""What was made from a payload, directly."""
Answers = dict[tuple[str, int], list["Acknowledged"]]
"""A home's answers by the withdrawal that they name."""


def check_withdrawals(homes: Sequence[Audited]) -> None:
    """Holds every withdrawal against the answers; findings go to who must answer."""
    if not any(item.history.office.withdrawn or item.history.office.acknowledged for item in homes):
        return
    children = _children(homes)
    publishers: dict[str, Audited] = {}
    answers: list[Answers] = []
    for item in homes:
        publishers.setdefault(item.history.node, item)
        answers.append({})
        for ack in item.history.office.acknowledged:
            answers[-1].setdefault((ack.body.node, ack.body.index), []).append(ack)
    below: dict[bytes, set[bytes]] = {}
    for publisher in publishers.values():
        for index, withdrawn in publisher.history.office.withdrawn.items():
            art = withdrawn.body.art
            tainted = below[art] = below.get(art) or _below(children, [art])
            for item, told in zip(homes, answers, strict=True):
                acks = told.get((publisher.history.node, index), [])
                _answered(item, publisher, withdrawn, acks)
                for ack in acks:
                    _check_claim(item, ack, art, tainted, children)
                _check_use(item, withdrawn, acks, tainted)
    for item in homes:
        _check_named(item, publishers)


def _answered(
    item: Audited, publisher: Audited, withdrawn: Withdrawn, acks: Sequence[Acknowledged]
) -> None:
    """Every member whose log had begun answers by the deadline; the publisher need not."""
    history, deadline = item.history, withdrawn.body.deadline_ms
    what = f"entry {withdrawn.place.index} of {publisher.history.node}"
    for ack in acks[:1]:
        if ack.time_ms > deadline:
            late = (ack.time_ms - deadline) // 1_000
            _add(item, "withdraw.late", ack.place, f"the answer to {what} came {late} s late")
    bound = history.node != publisher.history.node and history.begun_ms <= withdrawn.time_ms
    if bound and not acks and history.last_ms > deadline:
        message = f"no answer to the withdrawal in {what}"
        item.findings.add("withdraw.missing", item.structure.layout.folder, message)


def _check_claim(
    item: Audited, ack: Acknowledged, art: bytes, tainted: set[bytes], children: Descent
) -> None:
    """Whether what was done can have been done."""
    body, made = ack.body, item.history.made
    if body.action == "refused" and body.legal is None:
        _add(item, "withdraw.claim", ack.place, "refused without a legal reason")
    if body.action == "not_used" and any(model in made for model in tainted - {art}):
        _add(item, "withdraw.claim", ack.place, "not used, but models here were made from it")
    if body.action in _REMOVED and any(model in tainted for model in body.after):
        _add(item, "withdraw.claim", ack.place, f"{body.action}, but the model descends from it")
    if body.action == "removed_exact":
        nearest = (out for model in tainted for out in children.get(model, ()))
        above = [out for out in nearest if out in made and made[out].trained]
        if any(model in _below(children, above) for model in body.before):
            message = "removed_exact, but local training lies above it: nothing can take it out"
            _add(item, "withdraw.claim", ack.place, message)


def _check_use(
    item: Audited, withdrawn: Withdrawn, acks: Sequence[Acknowledged], tainted: set[bytes]
) -> None:
    """No model in use descends from it after the deadline, or after a word that says so."""
    if any(ack.body.action == "refused" for ack in acks):
        return
    if not acks and item.history.last_ms <= withdrawn.body.deadline_ms:
        return
    for model, place in item.history.office.deployment.in_use.items():
        if model in tainted:
            message = f"{model.hex()[:16]}… is in use and descends from what was withdrawn"
            _add(item, "withdraw.deployed", place, message)


def _check_named(item: Audited, publishers: Mapping[str, Audited]) -> None:
    """An answer to a withdrawal that the publisher's log does not hold."""
    for ack in item.history.office.acknowledged:
        publisher = publishers.get(ack.body.node)
        if publisher is None or ack.place.index >= item.moment:
            continue
        if ack.body.index not in publisher.history.office.withdrawn:
            message = f"entry {ack.body.index} of {ack.body.node} withdraws nothing"
            _add(item, "withdraw.claim", ack.place, message)


def _children(homes: Sequence[Audited]) -> Descent:
    """What every payload was made into, by the word of all homes."""
    children: Descent = {}
    for item in homes:
        history = item.history
        for out, made in history.made.items():
            for source in made.sources:
                children.setdefault(source, set()).add(out)
        for published in history.published.values():
            if published.body.art not in history.made:
                for source in published.body.derived_from:
                    children.setdefault(source, set()).add(published.body.art)
    return children


def _below(children: Descent, starts: Sequence[bytes]) -> set[bytes]:
    """The payloads that descend from `starts`, themselves among them."""
    found, waiting = set(starts), list(starts)
    while waiting:
        for out in children.get(waiting.pop(), ()):
            if out not in found:
                found.add(out)
                waiting.append(out)
    return found


def _add(item: Audited, code: str, place: Place, message: str) -> None:
    item.findings.add(code, place.file, message, offset=place.offset, index=place.index)
