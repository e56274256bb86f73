"""Descent: one round of local training for many nodes at once.

The batches are those of `konsil.knowledge.batches`, so node i sees the rows that its daemon's
worker would see in that round. Nodes are taken in blocks whose parameters fit a core's cache:
the cost of a node then does not grow with the number of nodes. Those that take most steps come
first in their block, so that in each step the ones that still take part lie side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.batches import batches, keys_of
from konsil.simulations.sim.networks import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from konsil.knowledge.batches import Batches
    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.networks import Network
    from konsil.simulations.sim.scenario import Training

BLOCK_BYTES = 1 << 20
"""Parameters of the nodes that are trained together."""

AHEAD = 2_048
"""Steps that are planned at once, of all nodes together, unless one round has more."""


class Descent:
    """Trains nodes on their rows: `inputs` (n, r, …), `targets` (n, r), `rows` (n) that count."""

    def __init__(
        self,
        network: Network,
        inputs: Tensor,
        targets: Tensor,
        rows: Nodes,
        seeds: Sequence[int],
        training: Training,
    ) -> None:
        self._network = network
        self._inputs, self._targets = inputs, targets
        self._rows, self._seeds = rows, np.array(seeds, dtype=np.uint64)
        self._training = training
        self._ahead: tuple[int, Tensor, Tensor] | None = None
        """First round that is planned; places (rounds, steps, n, width) and weights alike."""
        self._sizes = self._batches(1, 1).counts.sum(axis=-1)
        """(n, steps): rows of each step, the same in all rounds; 0 where there is none."""
        self._taken = np.count_nonzero(self._sizes, axis=1)
        self._order = np.argsort(-self._taken, kind="stable")

    def round(self, models: Tensor, number: int, active: Mask) -> Tensor:
        """New models after round `number`; nodes that are not `active` keep theirs."""
        trained = models.clone()
        order = self._order[active[self._order]]
        if len(order) == 0:
            return trained
        places, weights = self._plan(number)
        in_place = len(order) == len(active) and bool((np.diff(order) == 1).all())
        for begin, end in blocks(len(order), self._network.layout.elements):
            some = order[begin:end]
            if in_place:
                steps = self._steps(some, places[:, begin:end], weights[:, begin:end])
                self._network.descend(trained[begin:end], steps, self._training.lr)
                continue
            which = torch.from_numpy(some).to(models.device)
            part = trained.index_select(0, which)
            steps = self._steps(some, places[:, which], weights[:, which])
            self._network.descend(part, steps, self._training.lr)
            trained.index_copy_(0, which, part)
        return trained

    def _steps(self, some: Nodes, places: Tensor, weights: Tensor) -> Iterator[Step]:
        """The steps of a block of nodes, those that take most steps first."""
        flat, labels = self._inputs.flatten(0, 1), self._targets.flatten()
        sizes = self._sizes[some]
        for step in range(int(self._taken[some[0]])):
            few, width = int(np.count_nonzero(sizes[:, step])), int(sizes[:, step].max())
            chosen = places[step, :few, :width]
            which = chosen.flatten()
            inputs = torch.unflatten(flat.index_select(0, which), 0, chosen.shape)
            targets = labels.index_select(0, which).view(chosen.shape)
            yield Step(inputs, targets, weights[step, :few, :width])

    def _plan(self, number: int) -> tuple[Tensor, Tensor]:
        """Places of rows in all nodes' rows, and their weights, (steps, n, width) in a round.

        Small networks plan several rounds at once, which costs hardly more than one.
        """
        if self._ahead is None or not 0 <= number - self._ahead[0] < len(self._ahead[1]):
            nodes, most = self._inputs.shape[:2]
            rounds = max(1, AHEAD // self._sizes.size)
            plan = self._batches(number, rounds)
            shape = (rounds, nodes, *plan.rows.shape[1:])
            lowest = (np.arange(nodes) * most)[None, :, None, None]
            places = (lowest + plan.rows.reshape(shape)).swapaxes(1, 2).copy()
            weights = plan.weights.reshape(shape).swapaxes(1, 2).copy()
            device = self._inputs.device
            self._ahead = (
                number,
                torch.from_numpy(places).to(device),
                torch.from_numpy(weights).to(device),
            )
        first, planned, shares = self._ahead
        return planned[number - first], shares[number - first]

    def _batches(self, number: int, rounds: int) -> Batches:
        """The batches of all nodes in that many rounds, round after round."""
        keys = [keys_of(self._seeds, number + more) for more in range(rounds)]
        return batches(
            np.concatenate(keys),
            np.tile(self._rows, rounds),
            size=self._training.batch,
            epochs=self._training.local_epochs or 1,
            steps=self._training.local_steps,
        )


def blocks(nodes: int, elements: int, most_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Begin and end of each block of nodes with `elements` float32 each; at least one node."""
    size = max(1, most_bytes // (4 * elements))
    for begin in range(0, nodes, size):
        yield begin, min(begin + size, nodes)
