"""Holdouts: the rows of each node that judge peers and are never trained on.

The rule of `konsil.knowledge.split.by_patient`, for all nodes at once: a class holds back
`fraction` of its patients, one at least where it has two, and keeps one at least; where every
class has one patient, one of them is held back. So a small node holds back more than `fraction`.
No patient is on both sides of a node, and neither is a row that was drawn twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.split import random_source

if TYPE_CHECKING:
    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.shares import Shares


def hold_back(data: DataSet, shares: Shares, fraction: float, seed: int) -> tuple[Shares, Shares]:
    """What each node trains on, and what it holds back; both have a row of every node.

    Every node needs two patients, as `shares.deal` and `draws.draw` give it. All rows of a
    patient go with the label of its first.
    """
    people = data.people
    keys = shares.node * (int(people.max()) + 1) + people[shares.row]
    patients, first, patient_of = np.unique(keys, return_index=True, return_inverse=True)
    node = shares.node[first]
    label = data.rows.labels[shares.row[first]]
    order = np.lexsort((random_source("holdout", seed).permutation(len(patients)), label, node))
    held = np.empty(len(patients), dtype=bool)
    held[order] = _held(node[order] * (int(label.max()) + 1) + label[order], fraction)
    none = np.bincount(node, weights=held, minlength=shares.nodes) == 0
    held[np.searchsorted(node, np.flatnonzero(none))] = True
    mask = held[patient_of]
    return shares.keep(~mask), shares.keep(mask)


def _held(groups: Nodes, fraction: float) -> Mask:
    """Whether each entry is among the first of its group that are held back; groups ascend."""
    _, start, size = np.unique(groups, return_index=True, return_counts=True)
    count = np.minimum(np.maximum(np.rint(fraction * size), 1), size - 1)
    rank = np.arange(len(groups)) - np.repeat(start, size)
    return np.asarray(rank < np.repeat(count, size))
