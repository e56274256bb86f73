"""Restoring: running statistics of normalisation, re-estimated on the hospital's own inputs.

A merged or foreign model carries running means and variances of other scanners, or of no model
at all; most of the apparent failure of merging with batch normalisation is that. The remedy
needs inputs but no labels. Laws: the model that is handed in and the momentum of every layer stay
as they were; all variances are positive; each counter says how many batches were seen; a model
without running statistics comes back unchanged. Afterwards the local intercept
(`konsil.knowledge.calibrate`) repairs the decisions; `settled` does both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from konsil.knowledge.judge import Judge
from konsil.knowledge.named import NamedTensors
from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from konsil.knowledge.task import Task

BATCH = 128
"""Inputs that are normalised together at most."""


@dataclass(frozen=True)
class Settled:
    """A model at home in one hospital: restored statistics and the intercept of each class."""

    model: NamedTensors
    intercept: tuple[float, ...]


def settled(task: Task, model: NamedTensors, device: str = "cpu") -> Settled:
    """`model` restored on the task's training inputs, and its local intercept."""
    own = restored(task.model, model, task.train.inputs, device=device)
    return Settled(own, Judge(task, device).intercept(own))


def restored(
    make: Callable[[], nn.Module],
    model: NamedTensors,
    inputs: Tensor,
    *,
    batch: int = BATCH,
    device: str = "cpu",
) -> NamedTensors:
    """`model` with its running statistics re-estimated on `inputs` (n, …), without labels.

    The average over batches of nearly equal size, each weighed by its rows: the cumulative
    average, from nothing. Everything else computes in evaluation mode. A channel that does not
    vary keeps the variance that it had, because 0 would magnify the first input that differs.
    Raises `TaskError` without inputs, or when they give no finite statistics.
    """
    with torch.random.fork_rng(devices=[]):
        module = make()
    layers = [part for part in module.modules() if _tracks(part)]
    if not layers:
        return model
    if len(inputs) == 0:
        raise TaskError("normalisation cannot be restored without inputs")
    model.load_into(module)
    module.to(device).eval()
    momenta = [layer.momentum for layer in layers]
    former = [_variance(layer).clone() for layer in layers]
    try:
        _estimate(module, layers, inputs, batch, device)
    except ValueError as fault:  # torch: one value for each channel has no variance
        raise TaskError(
            f"normalisation cannot be restored on {len(inputs)} inputs: {fault}"
        ) from fault
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    for layer, before in zip(layers, former, strict=True):
        _keep_positive(_variance(layer), before)
    found = NamedTensors.of(module)
    if not found.finite():
        raise TaskError("inputs without a value: the restored statistics are not finite")
    return found


def statistic_names(module: nn.Module) -> tuple[str, ...]:
    """The names of all running means, variances and counters: what no data vector may hold.

    The scales and shifts of normalisation are weights like others, and are not among them.
    """
    return tuple(
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        if _tracks(part)
        for name, _ in part.named_buffers(recurse=False)
    )


def _tracks(part: nn.Module) -> TypeGuard[_NormBase]:
    return isinstance(part, _NormBase) and part.running_var is not None


def _variance(layer: _NormBase) -> Tensor:
    assert layer.running_var is not None
    return layer.running_var


def _estimate(
    module: nn.Module, layers: list[_NormBase], inputs: Tensor, batch: int, device: str
) -> None:
    parts = torch.tensor_split(inputs, -(-len(inputs) // batch))
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
    seen = 0
    with torch.no_grad():
        for part in parts:
            seen += len(part)
            for layer in layers:
                # The plain cumulative average (momentum None) is none for instance
                # normalisation, and would weigh a smaller batch like a larger one.
                layer.momentum = len(part) / seen
            module(part.to(device))
    for layer in layers:
        assert layer.num_batches_tracked is not None
        layer.num_batches_tracked.fill_(len(parts))


def _keep_positive(variance: Tensor, before: Tensor) -> None:
    usable = torch.where(before > 0, before, torch.ones_like(before))
    variance.copy_(torch.where(variance > 0, variance, usable))
