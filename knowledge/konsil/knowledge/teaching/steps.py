"""Steps: the one loop in which a module learns from unlabelled rows.

Distillation, weak labels and prototypes differ in what a batch costs; order of the rows,
optimiser and the refusal of numbers that are not finite are the same. The order depends on the
key only. The module is trained in place, and its maker owns it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import nn

from konsil.knowledge.batches import batches
from konsil.knowledge.train import step as descend_once
from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from konsil.knowledge.batches import Keys
    from konsil.knowledge.task import Optimise

Cost: TypeAlias = "Callable[[Tensor, int], Tensor]"
"""Row numbers of a batch and the number of the step, from 0, to one scalar."""


def count(rows: int, *, size: int, epochs: int) -> int:
    """How many steps `follow` takes over so many rows."""
    return epochs * -(-rows // size)


def follow(
    module: nn.Module,
    cost: Cost,
    key: Keys,
    rows: int,
    *,
    size: int,
    epochs: int,
    rate: float,
    optimise: Optimise | None = None,
) -> float:
    """`epochs` shuffles of `rows` row numbers in batches of `size`; the mean cost of a step.

    Plain gradient descent at `rate`, as in local training, or what `optimise` makes.
    Without rows or epochs nothing happens and the mean is 0. Raises `TaskError` at the first
    cost that is not finite.
    """
    if rows == 0 or epochs == 0:
        return 0.0
    module.train()
    for part in module.modules():
        # Statistics are those of the hospital's own patients, not of a question.
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.eval()
    optimiser = None if optimise is None else optimise(module.parameters())
    plan = batches(key, np.array([rows]), size=size, epochs=epochs)
    costs = []
    for number, (numbers, counts) in enumerate(zip(plan.rows[0], plan.counts[0], strict=True)):
        module.zero_grad()
        value = cost(torch.from_numpy(numbers[counts]), number)
        costs.append(float(value.detach()))
        if not math.isfinite(costs[-1]):
            raise TaskError(
                f"the loss of step {number + 1} on unlabelled rows is {costs[-1]}",
                hint="lower the learning rate, or look for missing values in the inputs",
            )
        torch.autograd.backward(value)
        if optimiser is None:
            descend_once(module, rate)
        else:
            optimiser.step()
    return math.fsum(costs) / len(costs)
