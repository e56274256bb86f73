"""Precision: how well a hospital's own rows determine each weight of a model.

The diagonal of the Fisher information, for `konsil.knowledge.vectors.merging.fisher`. It
leaves the hospital together with its data vector, as tensors of the same names: averages over
rows of squared gradients, which tell more about a small cohort than the vector alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import LocalProtocolError, TaskError

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor, nn

    from konsil.knowledge.task import Task

MOST_ROWS = 256
"""Rows that are looked at, evenly spaced over the training rows: one gradient a row and class."""


def diagonal(task: Task, model: NamedTensors, names: Collection[str]) -> NamedTensors:
    """`E_x E_{y ~ p(y|x)} (d log p(y|x) / d w)²` over the training rows, for the tensors `names`.

    The expectation over the classes is exact, so no label is looked at. In evaluation mode, on
    the CPU; a tensor that is no trained parameter has zeros. Shapes are those of `model`.
    Raises `TaskError` when the outputs are not (rows, classes) or not finite, and
    `LocalProtocolError` when a name is not in `model`.
    """
    unknown = set(names) - set(model)
    if unknown:
        raise LocalProtocolError(f"no tensor is named {min(unknown)!r}")
    with torch.random.fork_rng(devices=[]):
        module = task.model()
    model.load_into(module)
    module.eval()
    weights = {
        name: weight
        for name, weight in module.named_parameters()
        if name in names and weight.requires_grad
    }
    found = {
        name: torch.zeros(weight.shape, dtype=torch.float64) for name, weight in weights.items()
    }
    count = len(task.train)
    places = torch.linspace(0, count - 1, min(count, MOST_ROWS)).round().long()
    for place in places.tolist():
        _add_row(module, task, task.train.inputs[place : place + 1], weights, found)
    return NamedTensors(
        {
            name: (found[name] / len(places) if name in found else torch.zeros(tensor.shape)).to(
                tensor.dtype
            )
            for name, tensor in model.items()
            if name in names
        }
    )


def _add_row(
    module: nn.Module,
    task: Task,
    row: Tensor,
    weights: dict[str, nn.Parameter],
    found: dict[str, Tensor],
) -> None:
    logits = module(row)
    if tuple(logits.shape) != (1, len(task.classes)) or not bool(logits.isfinite().all()):
        raise TaskError(
            f"the model of task {task.name!r} does not answer one row with "
            f"{len(task.classes)} finite values"
        )
    logs = logits.log_softmax(1)[0]
    for place in range(len(task.classes)):
        gradients = torch.autograd.grad(
            logs[place], list(weights.values()), retain_graph=True, allow_unused=True
        )
        share = float(logs[place].detach().exp())
        for name, gradient in zip(weights, gradients, strict=True):
            if gradient is not None:
                found[name] += share * gradient.double().square()
