"""Judge: measure on the private holdout whether a peer's model would do harm.

The trial of trust.md, step 1: start from the own model before this round's local steps, go a
quarter of the (bounded) way towards the peer's, and see whether the private loss falls. The
loss is balanced over the classes and its softmax is restricted to the classes of which the
hospital has rows, because a node does not judge what it cannot see. For masks it is balanced
over the images that have a class (`konsil.knowledge.losses`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from konsil.knowledge import losses, overlap
from konsil.knowledge.calibrate import fit_intercept
from konsil.knowledge.evaluate import evaluate
from konsil.knowledge.named import NamedTensors
from konsil.knowledge.train import predict
from konsil.protocol.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt
    from torch import Tensor

    from konsil.knowledge.task import Rows, Task

TRIAL = 0.25
"""The part of the way towards a peer's model that is tried (b)."""

MASKS_AT_ONCE = 32
"""Images that are answered together where every pixel gets an answer."""


class Judge:
    """Private losses of one task on one device; holds one module and the holdout."""

    def __init__(self, task: Task, device: str) -> None:
        self._task = task
        self._module = task.model().to(device)
        self._masks = task.problem == "masks"
        self._seen = torch.zeros(len(task.classes), dtype=torch.bool)
        for rows in (task.train, task.holdout):
            self._seen[rows.targets.cpu().flatten()] = True
        of = losses.mask_members if self._masks else losses.members
        self._members = of(task.holdout.targets.cpu(), len(task.classes))

    def loss(self, model: NamedTensors) -> float:
        """The private loss L of a model; infinite or NaN outputs give infinity."""
        return self._assess(model)[0]

    def gain(self, before: NamedTensors, trial: NamedTensors) -> tuple[float, float]:
        """How far `trial` lowers the private loss, and the standard error of that figure.

        The error is 0, no excuse, where the task has an own `loss`, which does not say what
        each row contributes, and where a loss is not finite. From one infinite loss to
        another there is no gain.
        """
        stay, stay_rows = self._assess(before)
        moved, moved_rows = self._assess(trial)
        gain = 0.0 if stay == moved else stay - moved
        if stay_rows is None or moved_rows is None or not math.isfinite(stay + moved):
            return gain, 0.0
        error = losses.mask_error if self._masks else losses.balanced_error
        return gain, float(error(stay_rows - moved_rows, self._members))

    def _assess(self, model: NamedTensors) -> tuple[float, Tensor | None]:
        """The private loss, and each holdout row's own where the loss is konsil's."""
        outputs = self.outputs(model, self._task.holdout.inputs)
        targets = self._task.holdout.targets.cpu()
        if self._task.loss is not None:
            rows, value = None, float(self._task.loss(outputs, targets))
        elif self._masks:
            rows = losses.mask_losses(outputs, targets, self._seen)
            value = float(losses.mask_mean(rows, self._members))
        else:
            rows = losses.row_losses(outputs, targets, self._seen)
            value = float(losses.balanced_mean(rows, self._members))
        return (float("inf") if math.isnan(value) else value), rows

    def outputs(self, model: NamedTensors, inputs: Tensor) -> Tensor:
        """What a model answers to `inputs`: one value a class (and pixel), on the CPU.

        (rows, classes), or for masks (rows, classes, h, w). Raises `TaskError` when the outputs
        have another shape.
        """
        model.load_into(self._module)
        outputs = predict(self._module, inputs, batch_size=MASKS_AT_ONCE if self._masks else 512)
        beyond = tuple(inputs.shape[2:]) if self._masks else ()
        if tuple(outputs.shape) != (len(inputs), len(self._task.classes), *beyond):
            more = "".join(f", {length}" for length in beyond)
            raise TaskError(
                f"the model of task {self._task.name!r} answers with shape "
                f"{tuple(outputs.shape)}, not (rows, {len(self._task.classes)} classes{more})"
            )
        return outputs

    def intercept(self, model: NamedTensors) -> tuple[float, ...]:
        """The local intercept of a model, fitted on the hospital's own training rows.

        Zero for masks: how much of an image a class takes is for the network to see.
        """
        if self._masks:
            return (0.0,) * len(self._task.classes)
        rows = self._task.train
        return fit_intercept(_array(self.outputs(model, rows.inputs)), _array(rows.targets))

    def measure(
        self, model: NamedTensors, rows: Rows | None = None, *, calibrated: bool = True
    ) -> dict[str, float]:
        """Metrics by name on `rows` (by default the holdout), with the local intercept.

        Those of `evaluate.METRICS`, or for masks of `overlap.METRICS`.
        """
        rows = self._task.holdout if rows is None else rows
        if self._masks:
            chosen = self.outputs(model, rows.inputs).argmax(dim=1)
            return overlap.evaluate(_array(chosen), _array(rows.targets), len(self._task.classes))
        logits = _array(self.outputs(model, rows.inputs)).astype(np.float64)
        shift = self.intercept(model) if calibrated else 0.0
        return evaluate(logits + shift, _array(rows.targets))


def trial_model(
    before: NamedTensors, received: NamedTensors, reach: float, rho: float
) -> NamedTensors:
    """`before` moved by `TRIAL` of the way to `received`, that way shortened to `rho`.

    `reach` is the distance between the two over the tensors that are mixed; tensors that
    `received` lacks stay as before.
    """
    factor = TRIAL * min(1.0, rho / reach) if reach > 0 else 0.0
    return NamedTensors(
        {
            name: tensor + factor * (received[name] - tensor)
            if name in received and tensor.is_floating_point()
            else tensor
            for name, tensor in before.items()
        }
    )


def local_names(task: Task, module: nn.Module) -> tuple[str, ...]:
    """The names of the tensors that never mix: batch normalisation and the task's `local`.

    Statistics of one hospital's scanner spoil another's model, and running variances of
    different means cannot be averaged.
    """
    normalised = tuple(
        f"{name}." if name else ""
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
    )
    return tuple(
        sorted(
            name
            for name in module.state_dict()
            if name.startswith(normalised) or _named(name, task.local)
        )
    )


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return np.asarray(tensor.detach().cpu())


def _named(name: str, local: Collection[str]) -> bool:
    return any(name == one or (one.endswith(".") and name.startswith(one)) for one in local)
