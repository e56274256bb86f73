"""Presence: who is there in each round, laid down for a whole run.

Late nodes join in the first round of the second half. Every other joined node changes in each
round, with the chance `churn`, between present and away; a departure that would leave fewer than
two of the steady nodes is put off. Steady are the honest ones, or all where no two are honest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.split import random_source

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from konsil.simulations.sim.links import Mask
    from konsil.simulations.sim.scenario import Faults

_FEWEST = 2


@dataclass(frozen=True)
class Presence:
    """Who is present in rounds 1 … r; round 0 is the state at the start."""

    table: Mask
    """(r + 1, n)."""
    late: Mask
    """(n): joins at half time."""
    joining: int
    """The round of that."""

    @classmethod
    def of(
        cls, faults: Faults, nodes: int, rounds: int, hostile: Collection[int], seed: int
    ) -> Presence:
        """The presence of `nodes` nodes over `rounds` rounds; the `hostile` are Byzantine."""
        random = random_source("presence", seed)
        steady = np.ones(nodes, dtype=np.bool_)
        steady[list(hostile)] = False
        if steady.sum() < _FEWEST:
            steady[:] = True
        late = _late(share_of(nodes, faults.late), steady, random)
        joining = rounds // 2 + 1
        table = np.empty((rounds + 1, nodes), dtype=np.bool_)
        table[0] = ~late
        for number in range(1, rounds + 1):
            changes = random.random(nodes)
            joins = late if number == joining else np.zeros_like(late)
            moves = (changes < faults.churn) & ~(late if number <= joining else joins)
            table[number] = _settled(table[number - 1] | joins, moves, changes, steady)
        return cls(table, late, joining)

    def joined(self, number: int) -> Mask:
        """(n): late nodes that join in this round."""
        return self.late & (number == self.joining)


def share_of(nodes: int, share: float) -> int:
    """How many nodes a share is: the nearest whole number, halves upwards."""
    return math.floor(share * nodes + 0.5)


def _late(count: int, steady: Mask, random: np.random.Generator) -> Mask:
    """Late nodes, drawn evenly but for two steady ones that are there from the start."""
    order = random.permutation(len(steady))
    order = order[~np.isin(order, order[steady[order]][:_FEWEST])]
    late = np.zeros_like(steady)
    late[order[:count]] = True
    return late


def _settled(before: Mask, moves: Mask, changes: npt.NDArray[np.float64], steady: Mask) -> Mask:
    """Who is present once those who move have moved; `changes` is each one's draw."""
    after: Mask = before ^ moves
    short = _FEWEST - int((after & steady).sum())
    if short > 0:
        leaving = np.flatnonzero(before & ~after & steady)
        after[leaving[np.argsort(changes[leaving])[-short:]]] = True
    return after
