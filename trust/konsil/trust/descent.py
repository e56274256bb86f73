"""Descent over several homes: what each home says its models were made from, and who said it first.

Every home is judged by its own words, and by the words of those whose artifacts it took. What
another home writes about a model that it did not make says nothing about who did.

Of two homes that say of one model that they made it, from different things, one spoke later when
its own log shows it: it holds an earlier receipt under a signed checkpoint of the other log that
covers the other's entry. Clocks decide nothing here, for every home sets its own.
"""

from __future__ import annotations

from bisect import bisect_right
from graphlib import CycleError, TopologicalSorter
from itertools import permutations
from typing import TYPE_CHECKING

from konsil.trust.rules import Made

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from konsil.trust.audited import Audited
    from konsil.trust.report import Findings
    from konsil.trust.rules import History, Received

    Node = tuple[int, bytes]
    """A model as a home tells of it: the home's position, and the digest."""


def words_of(history: History) -> dict[bytes, Made]:
    """What one log says of the models that it made: its first making, else its first release.

    From itself no model is made.
    """
    words = {out: made for out, made in history.made.items() if out not in made.sources}
    for published in history.published.values():
        body = published.body
        told = body.art in history.made or body.art in body.derived_from
        if not told and not history.may_be_unlearned(published.place):
            words.setdefault(body.art, Made(published.place, tuple(body.derived_from)))
    return words


class Descent:
    """The words of the given homes, and whose word counts for whom."""

    def __init__(self, homes: Sequence[Audited]) -> None:
        self.words = [words_of(item.history) for item in homes]
        self._homes = homes
        self._at: dict[str, int] = {}
        self._taken: list[dict[bytes, Received]] = []
        for position, item in enumerate(homes):
            self._at.setdefault(item.history.node, position)
            first: dict[bytes, Received] = {}
            for received in item.history.received:
                first.setdefault(received.body.art, received)
            self._taken.append(first)
        self._children: dict[Node, list[Node]] | None = None
        self._reached: dict[tuple[int, int], tuple[list[int], list[int]]] = {}

    def teller(self, at: int, model: bytes) -> Node:
        """Who tells a home where a model is from: itself, or whom it took it from first."""
        if model not in self.words[at] and (taken := self._taken[at].get(model)) is not None:
            return self._at.get(taken.body.publisher, at), model
        return at, model

    def children(self, node: Node) -> Sequence[Node]:
        """What was made from a model, directly, by the words that count for who made it."""
        if self._children is None:
            self._children = {}
            for at, words in enumerate(self.words):
                for out, made in words.items():
                    for source in made.sources:
                        self._children.setdefault(self.teller(at, source), []).append((at, out))
        return self._children.get(node, ())

    def below(self, starts: Iterable[Node]) -> set[Node]:
        """What descends from some models, themselves among them."""
        found = set(starts)
        waiting = list(found)
        while waiting:
            for child in self.children(waiting.pop()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def from_artifact(self, art: bytes) -> set[Node]:
        """All that descends from an artifact, whoever tells of it."""
        return self.below((at, art) for at in range(len(self.words)))

    def knew(self, later: int, earlier: int, model: bytes) -> bool:
        """Whether one home had seen the other's making of a model when it told of its own."""
        here, there = self.words[later][model].place, self.words[earlier][model].place
        if (later, earlier) not in self._reached:
            self._reached[later, earlier] = self._reach(later, earlier)
        places, sizes = self._reached[later, earlier]
        first = bisect_right(sizes, there.index)
        return first < len(places) and places[first] < here.index

    def _reach(self, later: int, earlier: int) -> tuple[list[int], list[int]]:
        """How far one home's receipts had shown it the other's log: at which entry, how many."""
        node, log = self._homes[earlier].history.node, self._homes[earlier].structure
        places: list[int] = []
        sizes: list[int] = []
        for one in self._homes[later].history.received:
            head = one.head
            if head is None or one.body.publisher != node or head.size > log.size:
                continue
            if head.size > max(sizes[-1:], default=0) and log.agrees(head):
                places.append(one.place.index)
                sizes.append(head.size)
        return places, sizes


def check_claims(homes: Sequence[Audited], descent: Descent) -> set[Node]:
    """Adds every later claim to a model that another home made before, at the claimer.

    Returns the claims. A model that was made from nothing is claimed by nobody.
    """
    tellers: dict[bytes, list[int]] = {}
    for at, words in enumerate(descent.words):
        for model in words:
            tellers.setdefault(model, []).append(at)
    found: set[Node] = set()
    for model, positions in tellers.items():
        if len(positions) == 1:
            continue
        said = {frozenset(descent.words[at][model].sources) for at in positions}
        if len(said) == 1:
            continue
        for later, earlier in permutations(positions, 2):
            if (later, model) not in found and _claims(homes, descent, later, earlier, model):
                found.add((later, model))
                place = descent.words[later][model].place
                whose = homes[earlier].history.node
                message = f"{model.hex()[:16]}… was made by {whose} before, from something else"
                homes[later].findings.add(
                    "lineage.claim", place.file, message, offset=place.offset, index=place.index
                )
    return found


def _claims(
    homes: Sequence[Audited], descent: Descent, later: int, earlier: int, model: bytes
) -> bool:
    """Whether the later home claims what the earlier one made."""
    mine, known = descent.words[later][model].sources, descent.words[earlier][model].sources
    if homes[later].history.node == homes[earlier].history.node or not mine:
        return False
    return set(mine) != set(known) and descent.knew(later, earlier, model)


def check_cycles(
    homes: Sequence[Audited], descent: Descent, claims: set[Node], told: Findings
) -> None:
    """No model is made from its own descendant: by the words of one home, or of all together.

    A circle that takes the words of several homes is told of none of them: who lied, nothing
    here can say.
    """
    alone = False
    for item, words in zip(homes, descent.words, strict=True):
        circle = _circle({out: made.sources for out, made in words.items()})
        alone = alone or bool(circle)
        for out in circle:
            place = words[out].place
            message = f"{out.hex()[:16]}… is made from what was made from it"
            item.findings.add(
                "lineage.cycle", place.file, message, offset=place.offset, index=place.index
            )
    if alone or len(homes) == 1:
        return
    together: dict[bytes, tuple[bytes, ...]] = {}
    for at, words in enumerate(descent.words):
        for out, made in words.items():
            if (at, out) not in claims:
                together[out] = together.get(out, ()) + made.sources
    circle = _circle(together)
    if circle:
        out = min(circle)
        speak = [n for n, words in enumerate(descent.words) if circle & words.keys()]
        names = ", ".join(dict.fromkeys(homes[n].history.node for n in speak))
        place = next(descent.words[n][out].place for n in speak if out in descent.words[n])
        message = f"{out.hex()[:16]}… is made from what was made from it, as {names} say together"
        told.add("lineage.cycle", place.file, message, offset=place.offset, index=place.index)


def _circle(sources: Mapping[bytes, Sequence[bytes]]) -> set[bytes]:
    """The models of one circle of descent, if there is any."""
    if _one_after_the_other(sources):
        return set()
    try:
        TopologicalSorter(sources).prepare()
    except CycleError as error:
        return set(error.args[1]) & sources.keys()
    return set()


def _one_after_the_other(sources: Mapping[bytes, Sequence[bytes]]) -> bool:
    """Whether every model stands behind all that it was made from: then there is no circle."""
    before: set[bytes] = set()
    for out, made_from in sources.items():
        if any(one not in before and one in sources for one in made_from):
            return False
        before.add(out)
    return True
