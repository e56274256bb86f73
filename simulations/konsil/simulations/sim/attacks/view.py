"""What Byzantine nodes see of a round, and what an attack is made of.

They collude and see everything but other nodes' data: every model before and after training,
and who hears whom. a and x are a node's model before and after a round's training, u = x − a
its update. The row of a Byzantine node in `trained` is its own training, which is honest
unless the attack poisons its rows. Where answers travel, the rows of `before` and `trained` are
the nodes' answers to the question instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from konsil.simulations.sim.scenario import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Links, Nodes
    from konsil.simulations.sim.networks import Network, Step

POOLED = 256
"""Rows on which Byzantine nodes try models."""

Poison: TypeAlias = "Callable[[Cohorts, Nodes, int], Cohorts]"
"""(data, Byzantine nodes, seed) to the data with their training rows changed."""
Release: TypeAlias = "Callable[[View], Tensor]"
"""A view to rows of models."""


@dataclass(frozen=True)
class Learning:
    """What Byzantine nodes can try models on: the network, and their own rows, pooled."""

    network: Network
    inputs: Tensor
    """(m, …)."""
    targets: Tensor
    """(m)."""

    @classmethod
    def of(cls, network: Network, cohorts: Cohorts, hostile: Nodes, device: str) -> Learning:
        """With the training rows of these nodes, about `POOLED` at most."""
        held = np.repeat(hostile, cohorts.train_rows[hostile])
        first = np.concatenate([np.arange(one) for one in cohorts.train_rows[hostile]])
        every = max(1, len(held) // POOLED)
        node, row = held[::every], first[::every]
        rows, labels = cohorts.inputs[node, row], cohorts.targets[node, row]
        return cls(network, rows.to(device), labels.to(device))

    def steps(self, models: int, count: int) -> list[Step]:
        """So many times all rows, for that many models."""
        from konsil.simulations.sim.networks import Step

        inputs = self.inputs.expand(models, *self.inputs.shape)
        targets = self.targets.expand(models, -1)
        weights = inputs.new_full(targets.shape, 1 / len(self.targets))
        return [Step(inputs, targets, weights)] * count

    def losses(self, models: Tensor) -> Tensor:
        """(b): the mean cross-entropy of models (b, p)."""
        from torch.nn import functional

        inputs = self.inputs.expand(len(models), *self.inputs.shape)
        answers = self.network.outputs(models, inputs).flatten(0, 1)
        several = functional.cross_entropy(
            answers, self.targets.repeat(len(models)), reduction="none"
        )
        return several.view(len(models), -1).mean(1)


@dataclass(frozen=True)
class View:
    """One round of n nodes with p elements each. Nothing of it may be written into."""

    number: int
    """The round, from 1."""
    rounds: int
    before: Tensor
    """(n, p): a."""
    trained: Tensor
    """(n, p): x."""
    links: Links
    hostile: Nodes
    """Every Byzantine node, b of them, ascending, whether or not it is there this round."""
    strength: float | None
    """As the scenario says; absent: each attack's own."""
    generator: torch.Generator
    """On the CPU, so that a seed draws the same wherever the models lie."""
    classes: int = 0
    """Of each answer, where rows are answers: p = question rows × classes."""
    learning: Learning | None = None
    """What they can try models on; None for one that stands alone."""

    @property
    def honest(self) -> Nodes:
        """Every other node, ascending."""
        return np.setdiff1d(np.arange(len(self.trained)), self.hostile)

    @property
    def hostile_links(self) -> Nodes:
        """Places of the links whose sender is Byzantine, ascending."""
        return np.flatnonzero(np.isin(self.links.sender, self.hostile))

    def updates(self, nodes: Nodes) -> Tensor:
        """u of these nodes, one row each."""
        return rows(self.trained, nodes) - rows(self.before, nodes)

    def strength_or(self, own: float | None) -> float:
        """The scenario's strength, else the attack's own."""
        chosen = own if self.strength is None else self.strength
        return 1.0 if chosen is None else chosen


@dataclass(frozen=True)
class Attack:
    """One way to do harm. Without `release` and `per_link` a node sends what it trained."""

    poison: Poison | None = None
    """What it does to its own training rows, once, before the first round."""
    release: Release | None = None
    """(b, p): what each Byzantine node sends to all that hear it."""
    per_link: Release | None = None
    """One row for each of `View.hostile_links`, in their order; goes before `release`."""
    strength: float | None = None
    """Its own strength; None where it has none, and then a scenario's does nothing."""
    kinds: tuple[str, ...] = WEIGHTS
    """The kinds of artifact that it can forge."""


def rows(models: Tensor, nodes: Nodes) -> Tensor:
    """A copy of these nodes' rows."""
    import torch

    return models.index_select(0, torch.from_numpy(nodes).to(models.device))
