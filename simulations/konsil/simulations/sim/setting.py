"""Setting: everything that is made of a scenario before its first round.

Data, network, the start model that all nodes share, who is Byzantine, and the graphs. The same
scenario gives the same setting in every process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.split import random_source
from konsil.knowledge.train import seed_of
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.attacks.forge import poisoned
from konsil.simulations.sim.graphs import graphs_of
from konsil.simulations.sim.models import model_of
from konsil.simulations.sim.networks import network_of
from konsil.simulations.sim.populate import populate
from konsil.simulations.sim.shifts import at_round

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

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
    network: Network
    base: Tensor
    """(p): the start model of all nodes."""
    hostile: Nodes
    """Byzantine nodes, ascending."""
    graphs: Graphs
    seeds: tuple[int, ...]
    """Of each node, for its batches."""

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
    cohorts = populate(population, seed, folder)
    if len(set(population.models)) > 1:
        raise ConfigError(
            "[population] model: unlike models cannot mix their parameters",
            hint='with artifacts.kinds = ["parameters"] take one model for all',
        )
    make = model_of(population.models[0], cohorts.columns, cohorts.classes, folder)
    network = network_of(make, cohorts.columns)
    drawn = random_source("hostile", seed).permutation(population.nodes)
    hostile = np.sort(drawn[: scenario.hostile])
    names, attacks = map(name_of, range(population.nodes)), scenario.adversary.attacks
    return Setting(
        scenario=scenario,
        cohorts=cohorts,
        trained_on=poisoned(attacks, cohorts, hostile, seed) if attacks else cohorts,
        network=network,
        base=start_model(network, make, seed),
        hostile=hostile,
        graphs=graphs_of(scenario.topology, population.nodes, seed, folder),
        seeds=tuple(seed_of(seed, "batches", name) for name in names),
    )


def start_model(network: Network, make: Callable[[], nn.Module], seed: int) -> Tensor:
    """(p): the weights with which every member of a consortium of this seed begins.

    Raises `ConfigError` where they do not follow from torch's random numbers.
    """
    drawn = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(seed, "base"))
            drawn.append(network.layout.row(make().state_dict()))
    if not torch.equal(*drawn):
        raise ConfigError(
            "[population] model: two networks of one seed begin with different weights",
            hint="draw the initial weights from torch's random numbers only",
        )
    return drawn[0]
