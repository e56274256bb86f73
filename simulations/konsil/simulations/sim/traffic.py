"""Traffic: who is there in each round, and what arrives where.

Without faults a round is as the one before it as long as the graph stays, and then the very same
objects are handed out: whoever works something out from them can keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.faults import FaultPlan
from konsil.simulations.sim.routes import Routes
from konsil.trust import weights

if TYPE_CHECKING:
    from konsil.simulations.sim.faults import Condition
    from konsil.simulations.sim.links import Links, Nodes
    from konsil.simulations.sim.setting import Setting
    from konsil.simulations.sim.shard import Shard
    from konsil.trust.fixed import Integers


@dataclass(frozen=True)
class Arrivals:
    """What arrives where under a condition, and how many messages are sent in all."""

    condition: Condition
    source: Nodes
    """Row of the table that each link of the condition brings."""
    routes: Routes
    lag: Nodes
    messages: int

    def follows_from(self, condition: Condition, source: Nodes) -> bool:
        """Are these the very objects that it was made of?"""
        return self.condition is condition and self.source is source


class Traffic:
    """The conditions of a run, and what arrives at the nodes of one process."""

    def __init__(self, setting: Setting, shard: Shard, device: str) -> None:
        self._setting, self._shard, self._device = setting, shard, device
        self._faults = FaultPlan.of(
            setting.scenario.faults,
            setting.nodes,
            setting.scenario.training.rounds,
            setting.hostile.tolist(),
            setting.scenario.seed,
        )
        self._calm: Condition | None = None
        """What holds as long as a graph stays, where the scenario has no faults."""
        self._arrivals: Arrivals | None = None
        """Of the last round."""

    def condition(self, number: int) -> Condition:
        """What holds in a round, each of which is asked for once."""
        links = self._setting.graphs.at(number)
        if self._setting.scenario.faults.requested:
            return self._faults.step(number, links)
        if self._calm is None or self._calm.links is not links:
            self._calm = self._faults.step(number, links)
        return self._calm

    def arrivals(self, condition: Condition, source: Nodes) -> Arrivals:
        """What arrives when each link of the condition brings this row of a table."""
        if self._arrivals is None or not self._arrivals.follows_from(condition, source):
            self._arrivals = self._arriving(condition, source)
        return self._arrivals

    def _arriving(self, condition: Condition, source: Nodes) -> Arrivals:
        links, shard = condition.links, self._shard
        metropolis = _metropolis(links)
        mine, which = links.keep(condition.arrives).of_receivers(shard.begin, shard.end)
        heard = np.flatnonzero(condition.arrives)[which]
        routes = Routes(mine, source[heard], metropolis[heard], self._device)
        lag = np.zeros(len(heard), dtype=np.int64)
        messages = int(condition.active[links.sender].sum())
        return Arrivals(condition, source, routes, lag, messages)


def _metropolis(links: Links) -> Integers:
    degrees = links.degrees
    heard: Integers = weights.metropolis_e9(degrees[links.receiver], degrees[links.sender])
    return heard
