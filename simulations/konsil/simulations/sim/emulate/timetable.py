"""Timetable: which rounds of a scenario each node is there for, and which own rounds these are.

A daemon counts only the rounds that it makes. Its k-th own round is the k-th round of the
scenario for which it is there, so that late and returning nodes learn as long as in a
simulation. Rounds count from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.presence import Presence

if TYPE_CHECKING:
    from collections.abc import Collection

    from konsil.simulations.sim.links import Mask
    from konsil.simulations.sim.scenario import Scenario


@dataclass(frozen=True)
class Stay:
    """Consecutive rounds for which a node is there, both included."""

    first: int
    last: int


@dataclass(frozen=True)
class Timetable:
    """Who is there in which round of a scenario."""

    present: Mask
    """(rounds, n); row 0 is round 1."""
    late: Mask
    """(n): joins at half time."""

    @classmethod
    def of(cls, scenario: Scenario, hostile: Collection[int]) -> Timetable:
        """The presence that the simulator gives the nodes, of whom the `hostile` are Byzantine."""
        nodes, rounds = scenario.population.nodes, scenario.training.rounds
        presence = Presence.of(scenario.faults, nodes, rounds, hostile, scenario.seed)
        return cls(presence.table[1:], presence.late)

    @property
    def rounds(self) -> int:
        """Rounds of the scenario."""
        return len(self.present)

    def own_until(self, node: int, number: int) -> int:
        """How many own rounds a node has made when round `number` of the scenario ends."""
        return int(self.present[:number, node].sum())

    def number_of(self, node: int, own: int) -> int:
        """The scenario's round in which a node makes this own round; 0 before the first one."""
        places = np.flatnonzero(self.present[:, node])
        return int(places[min(own, len(places)) - 1]) + 1 if own > 0 and len(places) else 0

    def stays(self, node: int) -> list[Stay]:
        """When a node is there, in order."""
        column = np.concatenate([[False], self.present[:, node], [False]]).astype(np.int8)
        turns = np.diff(column)
        begins, ends = np.flatnonzero(turns == 1), np.flatnonzero(turns == -1)
        return [Stay(int(a) + 1, int(b)) for a, b in zip(begins, ends, strict=True)]
