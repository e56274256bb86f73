"""Pupils: nodes of one architecture that learn from answers, all at once.

The same passes, batches and costs as `konsil.knowledge.teaching.distil` and `…student` for one
hospital: both descend the cross-entropy with a target, for between peers a student of weak labels
does not confirm itself (`Study.confidence` is 0); they differ in the order of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.batches import batches, keys_of
from konsil.knowledge.teaching.answers import EPOCHS
from konsil.knowledge.teaching.distil import Distillation
from konsil.knowledge.teaching.student import Study
from konsil.knowledge.train import seed_of
from konsil.simulations.sim.descent import blocks
from konsil.simulations.sim.networks import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from konsil.knowledge.batches import Keys
    from konsil.simulations.sim.networks import Network

_LESSON = Distillation(proxy_epochs=EPOCHS)
_STUDY = Study(epochs=EPOCHS)


class Pupils:
    """What one network makes of a question (m, …), for nodes that are told by name."""

    def __init__(self, network: Network, question: Tensor, seed: int, rate: float) -> None:
        self._network, self._question = network, question
        self._seed, self._rate = seed, rate

    def answers(self, models: Tensor) -> Tensor:
        """Outputs (b, m, C) of models (b, p)."""
        found = [
            self._network.outputs(part, self._question.expand(len(part), *self._question.shape))
            for begin, end in blocks(len(models), models.shape[1])
            for part in [models[begin:end]]
        ]
        return torch.cat(found)

    def distilled(self, models: Tensor, names: list[str], targets: Tensor, number: int) -> Tensor:
        """New models after the passes of round `number` towards targets (b, m, C)."""
        keys = self._keys("question", names, number)
        return self._taught(models, targets, keys, _LESSON.batch_size)

    def studied(self, models: Tensor, names: list[str], targets: Tensor, number: int) -> Tensor:
        """The same as students of weak labels (b, m, C)."""
        return self._taught(models, targets, self._keys("weak", names, number), _STUDY.batch_size)

    def _taught(self, models: Tensor, targets: Tensor, keys: Keys, size: int) -> Tensor:
        found, wanted = models.clone(), targets.to(models)
        for part, plan, goal in _blocks(found, self._plan(keys, size), wanted):
            lesson = (
                Step(self._question[rows], goal.gather(1, _wide(rows, goal)), shares)
                for rows, shares in plan
            )
            self._network.descend(part, lesson, self._rate)
        return found

    def _keys(self, word: str, names: list[str], number: int) -> Keys:
        return keys_of([seed_of(self._seed, word, name) for name in names], number)

    def _plan(self, keys: Keys, size: int) -> tuple[Tensor, Tensor]:
        """Rows of the question in each step (steps, b, width), and what each counts."""
        rows = np.full(len(keys), len(self._question))
        plan = batches(keys, rows, size=size, epochs=EPOCHS)
        places, shares = torch.from_numpy(plan.rows), torch.from_numpy(plan.weights)
        device = self._question.device
        return places.to(device).transpose(0, 1), shares.to(device).transpose(0, 1)


def _blocks(
    models: Tensor, plan: tuple[Tensor, Tensor], targets: Tensor
) -> Iterator[tuple[Tensor, list[tuple[Tensor, Tensor]], Tensor]]:
    """Models that fit a core's cache together (views), with their steps and their targets."""
    for begin, end in blocks(len(models), models.shape[1]):
        places, shares = (one[:, begin:end] for one in plan)
        yield models[begin:end], list(zip(places, shares, strict=True)), targets[begin:end]


def _wide(rows: Tensor, targets: Tensor) -> Tensor:
    """Row numbers (b, n), once for each class."""
    return rows[..., None].expand(*rows.shape, targets.shape[-1])
