"""Where a model comes from: every step that made it, and how much each hospital contributed.

Nodes of the graph are payload digests; an edge leads from what went in to what came out.
Mixing is linear with integer weights and training adds a change to its base, so a model is

    base + Σ c · (change made by one training step)

with exact rational c: the products of the mixing weights along all paths. A hospital's share
is its part of Σ c. Coefficients are integers at scale 10^(9·depth), never floats, and the
coefficients of the roots must sum to exactly 1. Where a step is not linear (an artifact made
from several others) or its ledger is not at hand, the path ends and the lineage says so.

Of a model that several hospitals claim, `konsil.trust.steps` says who made it, or that nobody can.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import msgspec
import networkx as nx

from konsil.protocol.errors import IncompleteError, UsageError, VerificationError
from konsil.protocol.fields import UNIT_E9
from konsil.protocol.learning_bodies import ArtifactIntegrate, ModelBase, ModelTrain
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.trust.audit import known_authors
from konsil.trust.exact import DIGITS, plus, rounded, shown
from konsil.trust.reading import read_ledger
from konsil.trust.sources import ledger_of
from konsil.trust.steps import OR, Source, Step, settled, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.entries import Entry
    from konsil.trust.reading import Told


_NOT_LINEAR = ("release", "taught")
"""Steps at which a path may end without a coefficient."""


class Contributor(msgspec.Struct, frozen=True, kw_only=True):
    """One hospital's part in a model."""

    node: str
    name: str
    steps: int
    """Training steps of this hospital that the model contains."""
    exact: tuple[int, int]
    """Σ c over them: (n, d) for n / 10^(9·d); d grows with every mix."""
    share_e9: int
    """The coefficient's share of all, in 1e-9; all shares sum to 10⁹."""

    @property
    def coefficient(self) -> str:
        """Σ c as a decimal, rounded to 18 places."""
        return shown(self.exact)

    @property
    def rounded(self) -> bool:
        """Whether `coefficient` is not exact."""
        said = rounded(*self.exact)
        return plus(said, (-self.exact[0], self.exact[1]))[0] != 0


class Contributions(msgspec.Struct, frozen=True, kw_only=True):
    """The exact decomposition of one model."""

    model: bytes
    contributors: tuple[Contributor, ...]
    roots: tuple[Step, ...]
    """Where paths end: base models, and steps that no given ledger explains."""
    depth: int
    """Mixes on the longest path."""
    linear: bool
    """False when a path ends at a step without a coefficient."""
    behind: tuple[Step, ...]
    """What lies behind such steps and was trained, or is not explained: it has no number."""
    complete: bool
    """Whether every path ends at a base model."""

    @property
    def missing(self) -> tuple[Step, ...]:
        """The ends that no given ledger explains; shares are incomplete when there are any."""
        return tuple(
            step
            for step in (*self.roots, *self.behind)
            if step.kind not in ("base", "train", *_NOT_LINEAR)
        )

    @property
    def influences(self) -> tuple[str, ...]:
        """The nodes whose part has no number."""
        return tuple(dict.fromkeys(step.node for step in self.behind))


class Lineage:
    """The steps of one or several ledgers, and questions about them."""

    def __init__(
        self,
        steps: Mapping[bytes, Step],
        names: Mapping[str, str],
        current: Mapping[str, bytes] | None = None,
        redacted: Iterable[str] = (),
    ) -> None:
        """`current` are the current models of the homes, in their order, by node id, and
        `redacted` the nodes whose logs made models by entries that were redacted.

        Raises `VerificationError` when a model would be its own ancestor.
        """
        self.steps = dict(steps)
        self.names = dict(names)
        self.currents = dict(current or {})
        self.redacted = frozenset(redacted)
        self.graph = nx.DiGraph()
        for step in steps.values():
            self.graph.add_node(step.out)
            for source in step.sources:
                self.graph.add_edge(source.model, step.out, w_e9=source.w_e9)
                if source.model not in self.steps:
                    self.steps[source.model] = _unknown(source)
        if not nx.is_directed_acyclic_graph(self.graph):
            raise VerificationError(
                "a model is made from what was made from it", hint="run: konsil audit verify"
            )

    def name(self, node: str) -> str:
        """The short name of a node, or the start of its id; of several, with `or` between them."""
        names = [self.names.get(one, f"{one[:8]}…") for one in node.split(OR)]
        return " or ".join(sorted(names))

    def current(self) -> bytes:
        """The current model of the first home. Raises `IncompleteError` when it has none."""
        model = next(iter(self.currents.values()), None)
        if model is None or model not in self.steps:
            raise IncompleteError("there is no model in the ledger of the first home")
        return model

    def current_of(self, model: bytes) -> list[str]:
        """The names of those whose current model this is."""
        return [self.name(node) for node, current in self.currents.items() if current == model]

    def find(self, start: str) -> bytes:
        """The one model whose hex digest begins with `start`.

        Raises `UsageError` when there are several, and `IncompleteError` when there is none.
        """
        found = [digest for digest in self.steps if digest.hex().startswith(start.lower())]
        if not found:
            raise IncompleteError(
                f"no entry makes {start}", hint="name the homes that know this model"
            )
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} models begin with {start}", hint="give more digits of the digest"
            )
        return found[0]

    def ancestors(self, model: bytes) -> set[bytes]:
        """Everything that went into a model, however far back."""
        return set(nx.ancestors(self.graph, model)) if model in self.graph else set()

    def descendants(self, model: bytes) -> set[bytes]:
        """Everything that was made from a payload, however far on."""
        return set(nx.descendants(self.graph, model)) if model in self.graph else set()

    def ordered(self, model: bytes) -> list[Step]:
        """The steps of a model and its ancestors, each after what it is made from."""
        missing: dict[bytes, int] = {}
        into: dict[bytes, list[bytes]] = {}
        ready: list[tuple[int, bytes]] = []
        waiting = [model]
        while waiting:
            digest = waiting.pop()
            if digest in missing:
                continue
            step = self.steps[digest]
            missing[digest] = len(step.sources)
            for source in step.sources:
                if source.model in into:
                    into[source.model].append(digest)
                else:
                    into[source.model] = [digest]
                    waiting.append(source.model)
            if not step.sources:
                ready.append((step.time_ms, digest))
        heapq.heapify(ready)
        found: list[Step] = []
        while ready:
            step = self.steps[heapq.heappop(ready)[1]]
            found.append(step)
            for digest in into.get(step.out, ()):
                missing[digest] -= 1
                if not missing[digest]:
                    heapq.heappush(ready, (self.steps[digest].time_ms, digest))
        return found

    def amounts(self, origin: bytes) -> dict[bytes, tuple[int, int] | None]:
        """How much of `origin` is in every payload made from it: (n, d) for n / 10^(9·d).

        The sum over all paths of the products of their weights, exactly; None where a path
        leads through a step that is not linear.
        """
        found: dict[bytes, tuple[int, int] | None] = {origin: (1, 0)}
        reached = self.graph.subgraph(self.descendants(origin))
        for digest in nx.topological_sort(reached):
            total: tuple[int, int] | None = (0, 0)
            for source in self.steps[digest].sources:
                if source.model not in found:
                    continue
                amount = found[source.model]
                if total is None or amount is None or source.w_e9 is None:
                    total = None
                    continue
                mixed = source.w_e9 != UNIT_E9
                passed = (amount[0] * source.w_e9, amount[1] + 1) if mixed else amount
                total = plus(total, passed)
            found[digest] = total
        return found

    def contributors(self, model: bytes) -> Contributions:
        """The exact shares of every hospital in a model."""
        order = self.ordered(model)
        flow: dict[bytes, tuple[int, int]] = {model: (1, 0)}
        totals: dict[str, tuple[int, int]] = {}
        steps: dict[str, int] = {}
        roots: list[Step] = []
        ended = (0, 0)
        for step in reversed(order):
            amount = flow.get(step.out)
            if amount is None:
                continue
            linear = [source for source in step.sources if source.w_e9]
            # What was trained and then handed out in another form is one step, not two.
            ends = step.kind in ("release", "unknown", "disputed") and not linear
            if step.kind == "train" or ends:
                totals[step.node] = plus(totals.get(step.node, (0, 0)), amount)
                steps[step.node] = steps.get(step.node, 0) + 1
            if not linear:
                roots.append(step)
                ended = plus(ended, amount)
            for source in linear:
                passed = (amount[0] * (source.w_e9 or 0), amount[1] + 1)
                if source.w_e9 == UNIT_E9:
                    passed = amount
                before = flow.get(source.model)
                if before is not None and before[1] == passed[1]:
                    passed = (before[0] + passed[0], passed[1])
                elif before is not None:
                    passed = plus(before, passed)
                flow[source.model] = passed
        if ended[0] != 10 ** (DIGITS * ended[1]):
            raise VerificationError("the coefficients of the roots do not sum to 1")
        return Contributions(
            model=model,
            contributors=self._shared(totals, steps),
            roots=tuple(reversed(roots)),
            depth=ended[1],
            linear=all(step.kind not in _NOT_LINEAR for step in roots),
            behind=self._behind(roots),
            complete=all(step.kind == "base" for step in roots),
        )

    def _behind(self, roots: Iterable[Step]) -> tuple[Step, ...]:
        """The steps of hospitals behind the ends that are not linear, by the hospitals' names."""
        ends = [root.out for root in roots if root.kind in _NOT_LINEAR]
        models = set().union(*(self.ancestors(model) for model in ends))
        found = [
            self.steps[model]
            for model in models
            if self.steps[model].kind in ("train", "unknown", "disputed")
        ]
        return tuple(sorted(found, key=lambda step: (self.name(step.node), step.out)))

    def _shared(
        self, totals: Mapping[str, tuple[int, int]], steps: Mapping[str, int]
    ) -> tuple[Contributor, ...]:
        """Contributors by falling share; rounding is settled by the largest remainders."""
        scale = max((depth for _, depth in totals.values()), default=0)
        whole = {node: n * 10 ** (DIGITS * (scale - d)) for node, (n, d) in totals.items()}
        total = sum(whole.values())
        floors = {node: divmod(amount * UNIT_E9, total) for node, amount in whole.items()}
        missing = UNIT_E9 - sum(share for share, _ in floors.values())
        by_rest = sorted(floors, key=lambda node: (-floors[node][1], node))
        lucky = set(by_rest[:missing])
        ranked = sorted(whole, key=lambda node: (-whole[node], node))
        return tuple(
            Contributor(
                node=node,
                name=self.name(node),
                steps=steps[node],
                exact=totals[node],
                share_e9=floors[node][0] + (node in lucky),
            )
            for node in ranked
        )


def read_lineage(homes: Sequence[Path], *, limits: Limits = DEFAULT_LIMITS) -> Lineage:
    """The lineage that the ledgers of these homes tell.

    Raises `VerificationError` when a ledger's files do not verify (its story is worth
    nothing then), `UsageError` when there is no such home, and `StorageError` when one
    cannot be read.
    """
    folders = [ledger_of(home) for home in homes]
    authors = known_authors(homes, limits)
    told = [read_ledger(folder, limits=limits) for folder in folders]
    return lineage_of(told, {node: author.name for node, author in authors.items()})


def lineage_of(ledgers: Sequence[Told], names: Mapping[str, str]) -> Lineage:
    """The lineage that ledgers tell which were read already; `names` are names by node id.

    Raises `VerificationError` when a model would be its own ancestor.
    """
    claims: dict[bytes, list[tuple[Told, Step]]] = {}
    currents: dict[str, bytes] = {}
    for told in ledgers:
        current = _current(told.entries)
        if current is not None:
            currents.setdefault(told.author.node, current)
        for out, step in steps_of(told).items():
            claims.setdefault(out, []).append((told, step))
    steps = {out: settled(told) for out, told in claims.items()}
    redacted = [one.author.node for one in ledgers if "unlearn.done" in one.redacted.values()]
    try:
        return Lineage(steps, names, currents, redacted)
    except VerificationError:
        # A false claim may close a circle: without what disputed steps name there may be none.
        ended = {
            out: msgspec.structs.replace(step, sources=()) if step.kind == "disputed" else step
            for out, step in steps.items()
        }
        return Lineage(ended, names, currents, redacted)


def _current(entries: Sequence[Entry]) -> bytes | None:
    """The model that was trained or mixed last; before that, the first base model."""
    made = [entry.b for entry in entries if isinstance(entry.b, ModelTrain | ArtifactIntegrate)]
    bases = [entry.b.model for entry in entries if isinstance(entry.b, ModelBase)]
    return made[-1].out if made else next(iter(bases), None)


def _unknown(source: Source) -> Step:
    return Step(
        out=source.model,
        kind="unknown",
        node=source.node,
        index=None,
        time_ms=0,
        round=None,
        sources=(),
        note="no given ledger says how it was made",
    )
