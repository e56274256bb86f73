"""Shares: which training rows belong to which node, each row to one node at most.

Whole patients are dealt, so that no patient is at two nodes, and every node has two patients at
least: one to train on and one to judge with. A node may lack classes. A deal depends on the
data set, the population and the seed only. Sampling with replacement is `draws`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge import split
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from konsil.knowledge.split import Places
    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.scenario import Population

FEWEST = 2
"""Patients of a node: one is trained on, one judges."""


@dataclass(frozen=True)
class Shares:
    """Rows of n nodes, side by side: entry k says that `row[k]` belongs to `node[k]`."""

    nodes: int
    node: Nodes
    """Ascending."""
    row: Places
    """Rows of the data set; repeated where they were drawn with replacement."""

    @property
    def counts(self) -> Nodes:
        """How many rows each node has."""
        return np.bincount(self.node, minlength=self.nodes)

    @property
    def starts(self) -> Nodes:
        """Where the rows of each node begin."""
        counts = self.counts
        return np.cumsum(counts) - counts

    def keep(self, mask: Mask) -> Shares:
        """The entries where `mask` holds."""
        return Shares(self.nodes, self.node[mask], self.row[mask])

    def of(self, node: int) -> Places:
        """The rows of one node."""
        start = self.starts[node]
        return np.asarray(self.row[start : start + self.counts[node]])

    def padded(self) -> Places:
        """(nodes, most): each node's rows, repeated from the first on to the longest's length."""
        counts = self.counts
        turns = np.arange(counts.max())[None, :] % counts[:, None]
        return np.asarray(self.row[self.starts[:, None] + turns])


def deal(data: DataSet, population: Population, seed: int) -> Shares:
    """The training rows dealt to the nodes without replacement, as `split` says.

    Raises `ConfigError` naming the key, when the nodes cannot each have two patients.
    """
    people = len(np.unique(data.people[data.train]))
    if people < FEWEST * population.nodes:
        raise ConfigError(
            f"[population] nodes = {population.nodes}: {people} training patients are too few",
            hint=f"at most {people // FEWEST} nodes, or set rows to draw with replacement",
        )
    if population.size_skew and population.split in ("pathological", "sites"):
        raise ConfigError(
            f'[population] size_skew cannot go with split = "{population.split}"',
            hint="leave size_skew out, or take split = iid or dirichlet",
        )
    return DEALS[population.split](data, population, seed)


def iid(data: DataSet, population: Population, seed: int) -> Shares:
    """Patients shuffled once and cut into one piece a node, the rest dropped.

    The pieces are equal, or with `size_skew` s in proportion to ``(k + 1) ** -s``.
    """
    people = np.unique(data.people[data.train])
    planned = np.arange(1, population.nodes + 1, dtype=np.float64) ** -population.size_skew
    sizes = np.floor(len(people) * planned / planned.sum() + 1e-9).astype(np.int64)
    if population.size_skew:
        sizes = np.maximum(sizes, FEWEST)
        sizes[0] -= max(0, int(sizes.sum()) - len(people))
        if sizes[0] < FEWEST:
            raise _uneven(population)
    node_of = np.full(int(people.max()) + 1, -1, dtype=np.int64)
    shuffled = split.random_source("iid", seed).permutation(people)[: sizes.sum()]
    node_of[shuffled] = np.repeat(np.arange(population.nodes), sizes)
    return _by_person(data, population.nodes, node_of)


def dirichlet(data: DataSet, population: Population, seed: int) -> Shares:
    """Each class dealt in proportions of a Dirichlet distribution (Hsu, Qi and Brown, 2019).

    As `konsil.knowledge.split.dirichlet`, but nodes may lack classes. A node that is left
    with fewer than two patients takes some of the node that has most.
    """
    labels, patients = _training(data)
    dealt = split.dirichlet(
        labels,
        patients,
        population.nodes,
        seed,
        alpha=population.alpha,
        size_skew=population.size_skew,
        fewest=0,
    )
    node_of = _node_of_people(data, dealt)
    _repair(node_of, population.nodes, split.random_source("repair", seed))
    return _by_person(data, population.nodes, node_of)


def pathological(data: DataSet, population: Population, seed: int) -> Shares:
    """Each node has rows of `classes_each` classes only; the classes go round."""
    labels, patients = _training(data)
    expect_classes(data, population)
    found = len(np.unique(labels))
    if population.nodes * population.classes_each < found:
        raise ConfigError(
            f"[population] {population.nodes} nodes of {population.classes_each} classes each "
            f"cannot hold {found} classes",
            hint="raise classes_each or nodes",
        )
    dealt = split.pathological(
        labels, patients, population.nodes, seed, classes_each=population.classes_each
    )
    return _of_lists(data, dealt, population)


def sites(data: DataSet, population: Population, seed: int) -> Shares:
    """Each node is one hospital of the data set, with all of its rows; `seed` changes nothing.

    Raises `ConfigError` for a patient of two hospitals, of whom two nodes would have rows.
    """
    places = rows_of_sites(data, population)
    seen = np.concatenate([np.unique(data.people[one]) for one in places])
    people, times = np.unique(seen, return_counts=True)
    if (times > 1).any():
        place = int(np.flatnonzero(data.people == people[times > 1][0])[0])
        raise ConfigError(
            f'[population] split = "sites": {int((times > 1).sum())} patients have rows at several'
            f" hospitals, {data.rows.patients[place]} for one",
            hint="give each hospital's patients ids of their own, or take another split",
        )
    return _of_lists(data, [np.flatnonzero(np.isin(data.train, one)) for one in places], population)


def rows_of_sites(data: DataSet, population: Population) -> list[Places]:
    """The training rows of each hospital. Raises `ConfigError` unless each is one node."""
    if not data.sites:
        raise ConfigError(
            f'[population] split = "sites": the data set {population.dataset} names no hospitals',
            hint="take another split; a CSV names them by the key site, an NPZ by an array `site`",
        )
    names = site_names(data)
    if len(names) != population.nodes:
        raise ConfigError(
            f'[population] nodes = {population.nodes}: split = "sites" gives {len(names)} nodes',
            hint=f"set nodes = {len(names)}: {', '.join(names[:8])}{'…' * (len(names) > 8)}",
        )
    column = np.array(data.sites)[data.train]
    return [data.train[column == name] for name in names]


def site_names(data: DataSet) -> tuple[str, ...]:
    """The hospitals of a data set in alphabetical order; the i-th is node i."""
    return tuple(sorted(set(data.sites)))


def expect_classes(data: DataSet, population: Population) -> None:
    """Raises `ConfigError` when a node cannot have `classes_each` different classes."""
    found = len(np.unique(data.rows.labels[data.train]))
    if not 1 <= population.classes_each <= found:
        raise ConfigError(
            f"[population] classes_each = {population.classes_each}: {population.dataset} has "
            f"{found} classes",
            hint=f"1 to {found}",
        )


def _training(data: DataSet) -> tuple[split.Labels, list[str]]:
    return data.rows.labels[data.train], [data.rows.patients[place] for place in data.train]


def _by_person(data: DataSet, nodes: int, node_of: Nodes) -> Shares:
    """The training rows of the people that have a node; `node_of` is -1 for the others."""
    node = node_of[data.people[data.train]]
    order = np.argsort(node, kind="stable")
    order = order[node[order] >= 0]
    return Shares(nodes, node[order], data.train[order])


def _node_of_people(data: DataSet, dealt: Sequence[Places]) -> Nodes:
    people = data.people
    node_of = np.full(len(people), -1, dtype=np.int64)
    for node, places in enumerate(dealt):
        node_of[people[data.train[places]]] = node
    return node_of


def _of_lists(data: DataSet, dealt: Sequence[Places], population: Population) -> Shares:
    people = data.people[data.train]
    for node, places in enumerate(dealt):
        if len(np.unique(people[places])) < FEWEST:
            raise ConfigError(
                f"[population] node {node} would have {len(np.unique(people[places]))} training "
                f'patients with split = "{population.split}", and needs {FEWEST}',
                hint="take fewer nodes, another split, or another seed",
            )
    return _by_person(data, population.nodes, _node_of_people(data, dealt))


def _repair(node_of: Nodes, nodes: int, random: np.random.Generator) -> None:
    """Gives each node two patients, taken one at a time from the node that has most."""
    counts = np.bincount(node_of[node_of >= 0], minlength=nodes)
    for node in np.flatnonzero(counts < FEWEST):
        while counts[node] < FEWEST:
            rich = int(np.argmax(counts))
            node_of[random.choice(np.flatnonzero(node_of == rich))] = node
            counts[rich] -= 1
            counts[node] += 1


def _uneven(population: Population) -> ConfigError:
    return ConfigError(
        f"[population] size_skew = {population.size_skew:g} leaves a node without two patients",
        hint="lower size_skew, or take fewer nodes",
    )


DEALS: Mapping[str, Callable[[DataSet, Population, int], Shares]] = {
    "iid": iid,
    "dirichlet": dirichlet,
    "pathological": pathological,
    "sites": sites,
}
"""What `[population] split` may name."""
