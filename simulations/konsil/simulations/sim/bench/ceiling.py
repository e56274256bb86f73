"""Ceiling: the fastest honest implementation of the workload's mathematics that we know.

Each layer's weights of all nodes lie in one tensor, all products are batched, the mix is an
embedding bag over each layer, and every batch of the run is gathered before the clock starts. It
trains on the rows, in the batches, that the simulator takes, so both end with the same models.
There are no rules, faults, seeds or records: what the simulator spends beyond this is its price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.batches import batches, keys_of
from konsil.simulations.sim.bench.workload import metropolis

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.setting import Setting


class Ceiling:
    """A run of a setting whose nodes have equally many rows and a perceptron of two layers."""

    def __init__(self, setting: Setting) -> None:
        self._layout = setting.network.layout
        self._base = setting.base
        self._nodes = setting.nodes
        self._rate = setting.scenario.training.lr
        self._rounds = [
            _batches(setting, number) for number in range(1, setting.scenario.training.rounds + 1)
        ]
        weights = metropolis(setting)
        receiver, sender = np.nonzero(weights)
        self._senders = torch.from_numpy(sender)
        self._starts = torch.from_numpy(np.searchsorted(receiver, np.arange(self._nodes)))
        self._weights = torch.from_numpy(weights[receiver, sender].astype(np.float32))

    def run(self) -> Tensor:
        """(n, p): the models after all rounds."""
        begun = self._layout.tensors(self._base.repeat(self._nodes, 1)).values()
        w1, b1, w2, b2 = (one.contiguous() for one in begun)
        b1, b2 = b1.unsqueeze(1), b2.unsqueeze(1)
        backward = torch.ops.aten.threshold_backward
        for steps in self._rounds:
            for inputs, targets in steps:
                hidden = torch.baddbmm(b1, inputs, w1.transpose(1, 2)).relu_()
                slope = torch.baddbmm(b2, hidden, w2.transpose(1, 2)).softmax(-1)
                slope.sub_(targets).mul_(self._rate / inputs.shape[1])
                below = backward(torch.bmm(slope, w2), hidden, 0)
                w2.baddbmm_(slope.transpose(1, 2), hidden, alpha=-1)
                w1.baddbmm_(below.transpose(1, 2), inputs, alpha=-1)
                b2 -= slope.sum(1, keepdim=True)
                b1 -= below.sum(1, keepdim=True)
            w1, b1, w2, b2 = self._mixed(w1), self._mixed(b1), self._mixed(w2), self._mixed(b2)
        return torch.cat([one.flatten(1) for one in (w1, b1, w2, b2)], dim=1)

    def _mixed(self, layer: Tensor) -> Tensor:
        rows = torch.embedding_bag(
            layer.view(self._nodes, -1),
            self._senders,
            self._starts,
            per_sample_weights=self._weights,
        )[0]
        return rows.view(layer.shape)


def _batches(setting: Setting, number: int) -> list[tuple[Tensor, Tensor]]:
    """The steps of a round: inputs (n, w, …) and the targets as vectors (n, w, C)."""
    cohorts, training = setting.cohorts, setting.scenario.training
    plan = batches(
        keys_of(setting.seeds, number),
        cohorts.train_rows,
        size=training.batch,
        epochs=training.epochs or 1,
    )
    whose = torch.arange(setting.nodes)[:, None]
    found = []
    for step in range(plan.rows.shape[1]):
        width = int(plan.counts[0, step].sum())
        rows = torch.from_numpy(plan.rows[:, step, :width])
        targets = torch.nn.functional.one_hot(cohorts.targets[whose, rows], cohorts.classes)
        found.append((cohorts.inputs[whose, rows].flatten(2), targets.float()))
    return found
