"""Graphs: who hears whom in each round of a scenario, from its section `[topology]`.

Kinds that stay are built once and are connected. `epidemic`: in every round each node hears
`degree` others, drawn evenly and without repetition; who is heard need not hear back.
`time_varying`: one connected random regular graph is drawn, and every `period` rounds the nodes
change places in it by a fresh even permutation. Each of these graphs alone is distributed as a
fresh draw would be, for the law of that draw does not depend on the nodes' names.

The same topology, nodes and seed give the same graphs, in whatever order they are asked for;
`at` gives the same object as long as a graph stays, so that what follows from it can be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from konsil.knowledge.split import random_source
from konsil.node.learning.partners import degree
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.graph_files import SUFFIXES, links_of_file
from konsil.simulations.sim.graph_kinds import KINDS, USUAL_DEGREE, checked_degree
from konsil.simulations.sim.links import Links
from konsil.simulations.topology import ATTEMPTS, first_connected

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from konsil.simulations.sim.graph_kinds import Kind
    from konsil.simulations.sim.scenario import Topology

MOST_LINKS = 10_000_000
"""Directed links of one round; more do not fit a laptop's memory beside the models."""


class Graphs(Protocol):
    """The links of every round."""

    @property
    def lasts(self) -> int | None:
        """Rounds after which a graph gives way to the next; None where it never does."""
        ...

    def at(self, number: int) -> Links:
        """The links of round `number`, from 1."""
        ...


@dataclass(frozen=True)
class Fixed:
    """One graph for all rounds."""

    links: Links
    lasts: None = None

    def at(self, _number: int) -> Links:
        """The same links in every round."""
        return self.links


@dataclass(frozen=True)
class Epidemic:
    """Fresh senders for every node in every round."""

    nodes: int
    fan_in: int
    seed: int
    lasts: int = 1

    def at(self, number: int) -> Links:
        """Each node hears `fan_in` others, every set of them as likely as any other.

        Floyd's sampling without replacement (Bentley and Floyd, 1987), for all nodes at once:
        the k-th draw is from a range that is one longer than the draw before's, and what is
        taken already gives way to the range's last number.
        """
        random = random_source("epidemic", self.seed, number)
        last = self.nodes - 1 - self.fan_in
        drawn = np.empty((self.fan_in, self.nodes), dtype=np.int64)
        for place in range(self.fan_in):
            pick = random.integers(0, last + place, endpoint=True, size=self.nodes)
            taken = (drawn[:place] == pick).any(axis=0)
            drawn[place] = np.where(taken, last + place, pick)
        drawn += drawn >= np.arange(self.nodes)
        drawn.sort(axis=0)
        receiver = np.repeat(np.arange(self.nodes), self.fan_in)
        return Links(self.nodes, receiver, drawn.T.ravel())


@dataclass
class TimeVarying:
    """A random regular graph in which the nodes change places every `lasts` rounds."""

    first: Links
    lasts: int
    seed: int
    _kept: tuple[int, Links] | None = field(default=None, repr=False)

    def at(self, number: int) -> Links:
        """The links of the round; those of its period are kept until another is asked for."""
        period = (number - 1) // self.lasts
        if self._kept is None or self._kept[0] != period:
            places = random_source("time varying", self.seed, period).permutation(self.first.nodes)
            moved = Links.of(
                self.first.nodes, places[self.first.receiver], places[self.first.sender]
            )
            self._kept = (period, moved)
        return self._kept[1]


def _epidemic(topology: Topology, nodes: int, seed: int) -> Graphs:
    fan_in = checked_degree(topology, nodes)
    if fan_in is None:
        fan_in = degree("epidemic", nodes - 1)
    return Epidemic(nodes, fan_in, seed)


def _time_varying(topology: Topology, nodes: int, seed: int) -> Graphs:
    first = _links_of_kind("random_regular", topology, nodes, seed)
    return TimeVarying(first, topology.period, seed)


CHANGING: Mapping[str, Callable[[Topology, int, int], Graphs]] = {
    "epidemic": _epidemic,
    "time_varying": _time_varying,
}
"""Every kind whose graph changes, by name."""


def graphs_of(topology: Topology, nodes: int, seed: int, folder: Path) -> Graphs:
    """The graphs of a scenario; a graph file is looked up from `folder`.

    Raises `ConfigError` for an unknown kind, a degree that does not suit, a graph that is too
    large or not connected, or a file that does not fit.
    """
    kind = topology.kind
    if kind.endswith(SUFFIXES):
        return Fixed(links_of_file(kind, folder, nodes))
    _check_size(topology, nodes)
    if kind in CHANGING:
        return CHANGING[kind](topology, nodes, seed)
    if kind in KINDS:
        return Fixed(_links_of_kind(kind, topology, nodes, seed))
    names = ", ".join(sorted([*KINDS, *CHANGING]))
    raise ConfigError(
        f'[topology] kind = "{kind}" is not known',
        hint=f"choose one of {names}, or a file that ends in {' or '.join(SUFFIXES)}",
    )


def _links_of_kind(kind: str, topology: Topology, nodes: int, seed: int) -> Links:
    if kind == "complete":  # too many edges to go through a graph of objects
        receiver, sender = np.divmod(np.arange(nodes * nodes), nodes)
        return Links(nodes, receiver, sender).keep(receiver != sender)
    build: Kind = KINDS[kind]
    graph = first_connected(lambda draw: build(topology, nodes, draw), seed)
    if graph is None:
        raise ConfigError(
            f'[topology] kind = "{topology.kind}" over {nodes} nodes with degree = '
            f"{topology.degree or USUAL_DEGREE} came out unconnected {ATTEMPTS} times",
            hint="take a larger degree, or another seed",
        )
    return Links.between(nodes, graph.edges())


def _check_size(topology: Topology, nodes: int) -> None:
    degree = nodes - 1 if topology.kind == "complete" else checked_degree(topology, nodes)
    if degree is not None and nodes * degree > MOST_LINKS:
        raise ConfigError(
            f'[topology] kind = "{topology.kind}" over {nodes} nodes makes {nodes * degree} links; '
            f"{MOST_LINKS} are the most",
            hint="take fewer nodes, or fewer links of each",
        )
