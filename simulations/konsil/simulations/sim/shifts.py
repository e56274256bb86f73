"""Shifts: every node sees its patients through its own scanner, which may change over time.

A feature shift scales and moves each column by a node's own factors; drift moves them further
with every round, along a direction that a node keeps. Inputs are standardised, so that both are
in standard deviations. A hospital's test patients pass the same scanner as its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.split import random_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


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


def drifted(inputs: Tensor, node_directions: Tensor, number: int) -> Tensor:
    """Inputs (nodes, rows, …) as they are in round `number`, of those that were populated.

    The first round sees them unmoved. Always give the populated inputs, not the last round's.
    """
    return inputs + (number - 1) * node_directions[:, None]


def drifted_tests(
    inputs: Sequence[Tensor], node_directions: Tensor, number: int
) -> tuple[Tensor, ...]:
    """The same for test inputs, one set (rows, …) a node."""
    return tuple(one + (number - 1) * way for one, way in zip(inputs, node_directions, strict=True))


def _single(numbers: np.typing.NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32))
