"""Draws: every node samples `rows` training rows with replacement, for networks of thousands.

One row may be at many nodes, and twice at one; a node has two different patients at least, so
that its rows can be parted. All nodes are drawn at once: no loop over nodes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from konsil.knowledge import split
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.shares import FEWEST, Shares, expect_classes, rows_of_sites

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from konsil.knowledge.split import Places
    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.scenario import Population

Draw: TypeAlias = "Callable[[Nodes, np.random.Generator], Places]"
"""Nodes (k) to training rows (k, rows)."""
Fractions: TypeAlias = npt.NDArray[np.float64]

_TRIES = 100


def draw(data: DataSet, population: Population, seed: int) -> Shares:
    """`rows` rows for each node, from the pool that `split` gives it.

    Nodes that drew one patient only draw again. Raises `ConfigError` naming the key, also
    when such a node's pool has no second patient.
    """
    rows = population.rows or 0
    if rows < FEWEST:
        raise ConfigError(
            f"[population] rows = {rows}: a node needs {FEWEST} rows",
            hint="one is trained on, one judges",
        )
    if population.size_skew:
        raise ConfigError(
            "[population] size_skew and rows contradict each other",
            hint="leave one of them out",
        )
    random = split.random_source("draw", population.split, seed)
    sample = DRAWS[population.split](data, population, random)
    table = sample(np.arange(population.nodes), random)
    people = data.people
    for _ in range(_TRIES):
        drawn = people[table]
        alone = np.flatnonzero((drawn == drawn[:, :1]).all(axis=1))
        if len(alone) == 0:
            node = np.repeat(np.arange(population.nodes), rows)
            return Shares(population.nodes, node, np.sort(table, axis=1).ravel())
        table[alone] = sample(alone, random)
    raise ConfigError(
        f"[population] node {alone[0]} can draw no second patient from its pool",
        hint="take another split, or more classes_each",
    )


def iid(data: DataSet, population: Population, random: np.random.Generator) -> Draw:
    """Any training row."""
    rows = population.rows or 0
    return lambda nodes, random: random.choice(data.train, size=(len(nodes), rows))


def dirichlet(data: DataSet, population: Population, random: np.random.Generator) -> Draw:
    """Classes in the node's own proportions, then any row of the class.

    The proportions are a Dirichlet vector of `alpha` times the frequencies of the classes, made
    one again: the same law as that of the deal (`konsil.knowledge.split.dirichlet`).
    """
    pool = _ByClass(data)
    own = random.dirichlet(np.full(len(pool.counts), population.alpha), population.nodes)
    own = own * pool.counts
    edges = np.cumsum(own / own.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    shape = population.rows or 0

    def sample(nodes: Nodes, random: np.random.Generator) -> Places:
        at = random.random((len(nodes), shape))
        # One search for all: node k's edges and points are moved into the interval [k, k + 1).
        lifts = np.arange(len(nodes))[:, None]
        found = np.searchsorted((edges[nodes] + lifts).ravel(), (at + lifts).ravel(), side="right")
        return pool.sample(found.reshape(at.shape) - lifts * edges.shape[1], random)

    return sample


def pathological(data: DataSet, population: Population, random: np.random.Generator) -> Draw:
    """One of the node's `classes_each` classes, which go round, then any row of the class."""
    expect_classes(data, population)
    pool = _ByClass(data)
    order = random.permutation(len(pool.counts))
    each, rows = population.classes_each, population.rows or 0

    def sample(nodes: Nodes, random: np.random.Generator) -> Places:
        turn = random.integers(0, each, (len(nodes), rows))
        return pool.sample(order[(nodes[:, None] * each + turn) % len(order)], random)

    return sample


def sites(data: DataSet, population: Population, random: np.random.Generator) -> Draw:
    """Any training row of the node's hospital."""
    places = rows_of_sites(data, population)
    pool = _Pools(np.concatenate(places), np.array([len(one) for one in places]))
    rows = population.rows or 0
    return lambda nodes, random: pool.sample(np.repeat(nodes[:, None], rows, axis=1), random)


class _Pools:
    """Rows in groups, side by side."""

    def __init__(self, rows: Places, counts: Nodes) -> None:
        self.rows = rows
        self.counts = counts
        self.starts = np.cumsum(counts) - counts

    def sample(self, group: Nodes, random: np.random.Generator) -> Places:
        """One row of each of these groups, with the shape of `group`."""
        at = np.floor(random.random(group.shape) * self.counts[group]).astype(np.int64)
        return np.asarray(self.rows[self.starts[group] + at])


class _ByClass(_Pools):
    """The training rows in groups of one class; classes without rows have no group."""

    def __init__(self, data: DataSet) -> None:
        labels = data.rows.labels[data.train]
        counts = np.unique(labels, return_counts=True)[1]
        super().__init__(data.train[np.argsort(labels, kind="stable")], counts)


DRAWS: Mapping[str, Callable[[DataSet, Population, np.random.Generator], Draw]] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "pathological": pathological,
    "sites": sites,
}
"""What `[population] split` may name when `rows` is set."""
