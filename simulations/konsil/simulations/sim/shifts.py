"""Shifts: every node sees its patients through its own scanner, which may change over time.

A feature shift scales and moves each column by a node's own factors; drift moves them further
with every round, along a direction that a node keeps. Inputs are standardised, so that both are
in standard deviations. A hospital's test patients pass the same scanner as its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.split import random_source

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.cohorts import Cohorts


@dataclass(frozen=True)
class Shift:
    """Column by column ``x * scale + move``: both (nodes, …) float32, one row a node."""

    scale: Tensor
    move: Tensor

    def rows(self, inputs: Tensor) -> Tensor:
        """Inputs (nodes, rows, …) as each node sees its own."""
        return inputs * self.scale[:, None] + self.move[:, None]

    def view(self, inputs: Tensor, node: int) -> Tensor:
        """Inputs (rows, …) as one node sees them."""
        return inputs * self.scale[node] + self.move[node]


def feature_shift(nodes: int, columns: tuple[int, ...], size: float, seed: int) -> Shift:
    """Scales ``1 + size * a`` and moves ``size * b`` with standard normal a and b."""
    a, b = random_source("feature shift", seed).standard_normal((2, nodes, *columns))
    return Shift(_single(1 + size * a), _single(size * b))


def directions(nodes: int, columns: tuple[int, ...], drift: float, seed: int) -> Tensor:
    """(nodes, …): how far each column of each node moves in a round.

    Random directions; the columns of a node move by `drift` standard deviations in the root
    mean square.
    """
    drawn = random_source("drift", seed).standard_normal((nodes, *columns))
    squares = np.square(drawn).reshape(nodes, -1).mean(axis=1)
    lengths = np.sqrt(squares).reshape(nodes, *(1 for _ in columns))
    return _single(drift * drawn / lengths)


def at_round(cohorts: Cohorts, drift: float, seed: int, number: int) -> Cohorts:
    """Every node's rows as they are in round `number`, of those that were populated.

    Training, holdout and test rows move alike; the first round sees them unmoved. Always give
    the populated rows, not the last round's.
    """
    if drift == 0 or number <= 1:
        return cohorts
    way = (number - 1) * directions(cohorts.nodes, cohorts.columns, drift, seed)
    tests = zip(cohorts.test_inputs, way, strict=True)
    return replace(
        cohorts,
        inputs=cohorts.inputs + way[:, None],
        holdout_inputs=cohorts.holdout_inputs + way[:, None],
        test_inputs=tuple(one + mine for one, mine in tests),
    )


def _single(numbers: np.typing.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32))
