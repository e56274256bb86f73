"""Architecture: nodes whose networks are equal, and the weights with which all of these begin.

Within one architecture models are rows of a matrix. Nodes of several have nothing in common but
their inputs and classes, so that only answers can pass between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.train import seed_of
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.models import model_of
from konsil.simulations.sim.networks import network_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.networks import Network
    from konsil.simulations.sim.scenario import Population


@dataclass(frozen=True)
class Architecture:
    """The nodes of one network."""

    network: Network
    base: Tensor
    """(p): the start model of these nodes, on the CPU."""
    nodes: Nodes
    """Ascending."""


def architectures_of(
    population: Population, cohorts: Cohorts, seed: int, folder: Path
) -> tuple[Architecture, ...]:
    """The architectures of a population, whose nodes take its models in turn.

    Raises `ConfigError` naming `[population] model`.
    """
    every = np.arange(population.nodes)
    turn = [population.models[node % len(population.models)] for node in every]
    found = []
    for name in dict.fromkeys(turn):
        make = model_of(name, cohorts.columns, cohorts.classes, folder)
        network = network_of(make, cohorts.columns)
        mine = every[[one == name for one in turn]]
        found.append(Architecture(network, start_model(network, make, seed), mine))
    return tuple(found)


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
