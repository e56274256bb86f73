"""Setting: everything that is made of a scenario before its first round.

Data, network, the start model that all nodes share, who is Byzantine, and the graphs. The same
scenario gives the same setting in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.split import random_source
from konsil.knowledge.train import seed_of
from konsil.simulations.sim.architecture import architectures_of
from konsil.simulations.sim.attacks.forge import poisoned
from konsil.simulations.sim.graphs import graphs_of
from konsil.simulations.sim.lessons.asking import question_of
from konsil.simulations.sim.populate import cohorts_of, plan_of
from konsil.simulations.sim.shifts import at_round

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from konsil.knowledge.teaching.question import Question
    from konsil.simulations.sim.architecture import Architecture
    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.graphs import Graphs
    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.networks import Network
    from konsil.simulations.sim.scenario import Scenario


@dataclass(frozen=True)
class Setting:
    """A scenario made ready; tensors are on the CPU."""

    scenario: Scenario
    cohorts: Cohorts
    """As the nodes have them."""
    trained_on: Cohorts
    """The same, with the rows of Byzantine nodes poisoned where their attack does that."""
    architectures: tuple[Architecture, ...]
    """One where networks' weights travel; with answers there may be several."""
    question: Question | None
    """What all nodes are asked, where answers travel."""
    hostile: Nodes
    """Byzantine nodes, ascending."""
    graphs: Graphs
    seeds: tuple[int, ...]
    """Of each node, for its batches."""

    @property
    def network(self) -> Network:
        """The network of all nodes; where these are unlike, that of the first."""
        return self.architectures[0].network

    @property
    def base(self) -> Tensor:
        """(p): the start model of the nodes with that network."""
        return self.architectures[0].base

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return self.scenario.population.nodes

    @property
    def honest(self) -> Mask:
        """(n): who is not Byzantine."""
        mask = np.ones(self.nodes, dtype=bool)
        mask[self.hostile] = False
        return mask

    def cohorts_at(self, number: int) -> Cohorts:
        """What the nodes have in round `number`, as their patients drift."""
        return at_round(self.cohorts, self.scenario.population.drift, self.scenario.seed, number)

    def trained_on_at(self, number: int) -> Cohorts:
        """The same, with the rows of Byzantine nodes poisoned where their attack does that."""
        return at_round(self.trained_on, self.scenario.population.drift, self.scenario.seed, number)


def name_of(node: int) -> str:
    """What a node is called, also as a daemon: the seed of its batches depends on it."""
    return f"node-{node}"


def setting_of(scenario: Scenario, folder: Path) -> Setting:
    """The setting of a scenario, whose files are looked up from `folder`.

    Raises `ConfigError` naming the key that does not fit.
    """
    population, seed = scenario.population, scenario.seed
    plan = plan_of(population, seed, folder, scenario.artifacts)
    cohorts = cohorts_of(plan, population, seed)
    drawn = random_source("hostile", seed).permutation(population.nodes)
    hostile = np.sort(drawn[: scenario.hostile])
    names, attacks = map(name_of, range(population.nodes)), scenario.adversary.attacks
    return Setting(
        scenario=scenario,
        cohorts=cohorts,
        trained_on=poisoned(attacks, cohorts, hostile, seed) if attacks else cohorts,
        architectures=architectures_of(population, cohorts, seed, folder),
        question=question_of(plan, scenario),
        hostile=hostile,
        graphs=graphs_of(scenario.topology, population.nodes, seed, folder),
        seeds=tuple(seed_of(seed, "batches", name) for name in names),
    )
