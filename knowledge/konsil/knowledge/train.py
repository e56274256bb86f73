"""Train: one flat local loop, and the seeded start that all members share.

All randomness follows from the consortium's seed, the node's name and its round, so the same
inputs give the same model. The optimiser begins anew each round and is never shared. The start
model is copied in and stays as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from konsil.knowledge.batches import batches, keys_of
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.task import Scheduled
from konsil.protocol.digest import tagged
from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from konsil.knowledge.batches import Keys
    from konsil.knowledge.task import Rows, Task


@dataclass(frozen=True)
class Trained:
    """A locally trained model and the mean loss of its round."""

    model: NamedTensors
    loss: float


def seed_of(seed: int, *words: str) -> int:
    """A 63-bit seed that depends on the consortium's seed and on these words."""
    digest = tagged("seed", str(seed).encode(), *(word.encode() for word in words))
    return int.from_bytes(digest[:8], "big") >> 1


def initial_model(task: Task, seed: int) -> NamedTensors:
    """The common start model: the task's network with its weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "base"))
        return NamedTensors.of(task.model())


def train(
    task: Task, start: NamedTensors, *, seed: int, node: str, number: int, device: str = "cpu"
) -> Trained:
    """One round of local training from `start`, which is left unchanged.

    Raises `TaskError` when the loss or a weight is no longer a finite number.
    """
    own_seed = seed_of(seed, "train", node, str(number))
    with torch.random.fork_rng():
        torch.manual_seed(own_seed)
        module = task.model()
        start.load_into(module)
        module.to(device).train()
        if task.fit is None:
            loss = descend(task, module, keys_of([seed_of(seed, "batches", node)], number))
        else:
            generator = torch.Generator().manual_seed(own_seed)
            fit = task.fit.at(number) if isinstance(task.fit, Scheduled) else task.fit
            loss = fit(module, on_device(task.train, device), generator)
    return finished(module, loss, f"round {number}: training")


def finished(module: nn.Module, loss: float, what: str) -> Trained:
    """The model that `what` made. Raises `TaskError` when its loss or a weight is not finite."""
    model = NamedTensors.of(module)
    if not math.isfinite(loss) or not model.finite():
        raise TaskError(
            f"{what} ended with a loss of {loss} or a weight without a value",
            hint="lower the learning rate, or look for missing values in the inputs",
        )
    return Trained(model, float(loss))


def descend(task: Task, module: nn.Module, key: Keys) -> float:
    """Plain stochastic gradient descent over the training rows; the mean loss of all batches.

    `key` (one) decides which rows are in which batch. Raises `TaskError` at the first loss
    that is not finite.
    """
    device = str(next(module.parameters()).device)
    rows = on_device(task.train, device)
    criterion = task.loss or functional.cross_entropy
    plan = batches(
        key,
        np.array([len(rows)]),
        size=task.batch_size,
        epochs=task.local_epochs,
        steps=task.local_steps,
    )
    losses = []
    for numbers, counts in zip(plan.rows[0], plan.counts[0], strict=True):
        batch = torch.from_numpy(numbers[counts])
        module.zero_grad()
        loss = criterion(module(rows.inputs[batch]), rows.targets[batch])
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise TaskError(
                f"the loss of batch {len(losses)} is {losses[-1]}",
                hint="lower the learning rate, or look for missing values in the inputs",
            )
        torch.autograd.backward(loss)
        step(module, task.learning_rate)
    return math.fsum(losses) / len(losses)


def step(module: nn.Module, rate: float) -> None:
    """One step down the gradients that the parameters hold, as `torch.optim.SGD` takes it.

    Making an optimiser of torch imports its compiler: more time and memory than a short round.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-rate)


def predict(module: nn.Module, inputs: Tensor, *, batch_size: int = 512) -> Tensor:
    """Outputs of the module in evaluation mode, without gradients, on the CPU."""
    module.eval()
    device = next(module.parameters()).device
    with torch.no_grad():
        parts = [module(part.to(device)).cpu() for part in torch.split(inputs, batch_size)]
    return torch.cat(parts)


def on_device(rows: Rows, device: str) -> Rows:
    """The rows with their tensors on `device`."""
    return type(rows)(rows.inputs.to(device), rows.targets.to(device), rows.patients)
