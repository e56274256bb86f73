"""Cohorts: every node's private rows as padded tensors, and the rows on which all are tested.

Padding repeats a node's own rows and is never trained on or judged by: only the first
`train_rows[i]` and `holdout_rows[i]` rows of node i count.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.links import Nodes


@dataclass(frozen=True)
class Cohorts:
    """Data of n nodes, on the CPU. Inputs are float32, targets int64 class indices."""

    inputs: Tensor
    """(n, r, …): training rows, padded to the largest r."""
    targets: Tensor
    """(n, r)."""
    train_rows: Nodes
    """(n): how many training rows each node has."""
    holdout_inputs: Tensor
    """(n, h, …): private rows that judge peers, never trained on."""
    holdout_targets: Tensor
    """(n, h)."""
    holdout_rows: Nodes
    """(n)."""
    test_inputs: tuple[Tensor, ...]
    """One set (m, …) for all nodes, or one for each node."""
    test_targets: tuple[Tensor, ...]
    """As many, (m)."""
    classes: int
    metric: str
    """A name of `konsil.knowledge.evaluate.METRICS`."""

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.inputs)

    @property
    def columns(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.inputs.shape[2:])

    def of(self, nodes: Nodes) -> Cohorts:
        """Only these nodes' rows; the test sets stay."""
        return replace(
            self,
            inputs=self.inputs[nodes],
            targets=self.targets[nodes],
            train_rows=self.train_rows[nodes],
            holdout_inputs=self.holdout_inputs[nodes],
            holdout_targets=self.holdout_targets[nodes],
            holdout_rows=self.holdout_rows[nodes],
        )
