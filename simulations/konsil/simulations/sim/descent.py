"""Descent: one round of local training for many nodes at once.

The batches are those of `konsil.knowledge.batches`, so node i sees the rows that its daemon's
worker would see in that round. Nodes are taken in blocks whose parameters fit a core's cache:
the cost of a node then does not grow with the number of nodes. Those that take most steps come
first in their block, so that in each step the ones that still take part lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

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


_Round: TypeAlias = "tuple[Tensor, Tensor, Tensor]"
"""Places of rows in all nodes' rows, their targets, and their weights: (steps, n, width) each."""


@dataclass(frozen=True)
class _Block:
    """Nodes that are trained together, by their places in an order."""

    begin: int
    end: int
    steps: tuple[tuple[int, int], ...]
    """How many of them take part in each step, and the most rows of one."""


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
        self._rows, self._seeds = rows, np.array(seeds, dtype=np.uint64)
        self._training = training
        self._most = inputs.shape[1]
        self._inputs, self._targets = inputs.flatten(0, 1), targets.flatten()
        """Of all nodes, one row after the other."""
        self._ahead: tuple[int, list[_Round]] | None = None
        """First round that is planned, and what it and those behind it take."""
        self._sizes = self._batches(1, 1).counts.sum(axis=-1)
        """(n, steps): rows of each step, the same in all rounds; 0 where there is none."""
        self._taken = np.count_nonzero(self._sizes, axis=1)
        self._order = np.argsort(-self._taken, kind="stable")
        self._all = self._blocks(self._order)
        self._in_place = bool((np.diff(self._order) == 1).all())

    def round(self, models: Tensor, number: int, active: Mask) -> Tensor:
        """New models after round `number`; nodes that are not `active` keep theirs."""
        trained, planned = models.clone(), self._plan(number)
        everybody = bool(active.all())
        if everybody and self._in_place:
            for block in self._all:
                mine = slice(block.begin, block.end)
                ours = planned if len(self._all) == 1 else [one[:, mine] for one in planned]
                steps = self._steps(block, *ours)
                self._network.descend(trained[mine], steps, self._training.lr)
            return trained
        order = self._order if everybody else self._order[active[self._order]]
        for block in self._all if everybody else self._blocks(order):
            which = torch.from_numpy(order[block.begin : block.end]).to(models.device)
            part = trained.index_select(0, which)
            steps = self._steps(block, *(one[:, which] for one in planned))
            self._network.descend(part, steps, self._training.lr)
            trained.index_copy_(0, which, part)
        return trained

    def _blocks(self, order: Nodes) -> list[_Block]:
        """The blocks of these nodes, of which those that take most steps come first."""
        found = []
        for begin, end in blocks(len(order), self._network.layout.elements):
            sizes = self._sizes[order[begin:end], : self._taken[order[begin]]]
            few, width = np.count_nonzero(sizes, axis=0), sizes.max(axis=0)
            steps = tuple(zip(few.tolist(), width.tolist(), strict=True))
            found.append(_Block(begin, end, steps))
        return found

    def _steps(
        self, block: _Block, places: Tensor, targets: Tensor, weights: Tensor
    ) -> Iterator[Step]:
        """The steps of a block of nodes, whose plan this is."""
        columns = (places.unbind(), targets.unbind(), weights.unbind())
        for shape, step in zip(block.steps, zip(*columns, strict=True), strict=False):
            if shape == step[0].shape:
                chosen, labels, shares = step
            else:
                chosen, labels, shares = (one[: shape[0], : shape[1]] for one in step)
            rows = self._inputs.index_select(0, chosen.reshape(-1))
            yield Step(rows.view(chosen.shape + rows.shape[1:]), labels, shares)

    def _plan(self, number: int) -> _Round:
        """What all nodes take in a round.

        Small networks plan several rounds at once, which costs hardly more than one.
        """
        if self._ahead is None or not 0 <= number - self._ahead[0] < len(self._ahead[1]):
            nodes, device = len(self._rows), self._inputs.device
            rounds = max(1, AHEAD // self._sizes.size)
            plan = self._batches(number, rounds)
            shape = (rounds, nodes, *plan.rows.shape[1:])
            lowest = (np.arange(nodes) * self._most)[None, :, None, None]
            arrays = (lowest + plan.rows.reshape(shape), plan.weights.reshape(shape))
            places, weights = (
                torch.from_numpy(one.swapaxes(1, 2).copy()).to(device) for one in arrays
            )
            columns = places, self._targets[places], weights
            self._ahead = number, list(zip(*(one.unbind() for one in columns), strict=True))
        first, planned = self._ahead
        return planned[number - first]

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
