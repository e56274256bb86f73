"""Scores: how good each node's model is on the rows that nobody trains on.

Accuracy and balanced accuracy are counted for many nodes at once; any other metric is that of
`konsil.knowledge.evaluate`, one node after the other. No local intercept is fitted. An answer
that is no number is wrong, and a model that gives one has an area of 0: it counts as worst.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from konsil.knowledge.evaluate import evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.networks import Network

BLOCK_BYTES = 4 << 20
"""Answers of the nodes that are tested together."""


class Scores:
    """The test rows of a network of nodes, on one device."""

    def __init__(
        self,
        network: Network,
        inputs: tuple[Tensor, ...],
        targets: tuple[Tensor, ...],
        *,
        classes: int,
        metric: str,
        device: str,
    ) -> None:
        self._network = network
        self._inputs = tuple(one.to(device) for one in inputs)
        self._targets = tuple(one.to(device) for one in targets)
        self._classes, self._metric = classes, metric

    def under(self, network: Network) -> Scores:
        """The same rows for models of another network."""
        other = copy(self)
        other._network = network
        return other

    def of(self, models: Tensor, nodes: Nodes) -> npt.NDArray[np.float64]:
        """(b): the metric of the models (b, p) of these nodes; NaN where rows cannot give it."""
        if len(self._inputs) > 1:
            each = [
                self._one(model[None], int(node)) for model, node in zip(models, nodes, strict=True)
            ]
            return np.concatenate(each) if each else np.zeros(0)
        inputs = self._inputs[0]
        wide = inputs[0].numel() + self._network.layout.elements // max(len(inputs), 1)
        size = max(1, BLOCK_BYTES // (4 * len(inputs) * max(wide, 1)))
        found = [self._one(models[i : i + size], 0) for i in range(0, len(models), size)]
        return np.concatenate(found) if found else np.zeros(0)

    def of_one(self, model: Tensor, nodes: Nodes) -> npt.NDArray[np.float64]:
        """The metric of one model (1, p) at each of these nodes; once where all share a set."""
        if len(self._inputs) == 1:
            return self._one(model, 0)
        return self.of(model.expand(len(nodes), -1), nodes)

    def _one(self, models: Tensor, place: int) -> npt.NDArray[np.float64]:
        inputs, targets = self._inputs[place], self._targets[place]
        outputs = self._network.outputs(models, inputs.expand(len(models), *inputs.shape))
        if self._metric not in ("accuracy", "balanced_accuracy"):
            return self._each(outputs, targets)
        numbers = torch.isfinite(outputs).all(-1)
        right = ((outputs.argmax(-1) == targets) & numbers).double()
        if self._metric == "balanced_accuracy":
            of = torch.nn.functional.one_hot(targets, self._classes).double()
            sizes = of.sum(0)
            recall = (right @ of)[:, sizes > 0] / sizes[sizes > 0]
            return np.asarray(recall.mean(1).cpu())
        return np.asarray(right.mean(1).cpu())

    def _each(self, outputs: Tensor, targets: Tensor) -> npt.NDArray[np.float64]:
        labels = targets.cpu().numpy()
        answers = outputs.double().cpu().numpy()
        found = (
            evaluate(one, labels).get(self._metric, np.nan) if np.isfinite(one).all() else 0.0
            for one in answers
        )
        return np.fromiter(found, dtype=np.float64, count=len(answers))
