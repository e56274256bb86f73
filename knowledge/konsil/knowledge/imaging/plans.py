"""Plans: the learning rate of each round or step, and what each class counts. Pure functions.

The optimiser begins anew in each round, so a plan needs nothing but the number of the round and
of the step within it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import torch
from msgspec import Meta

if TYPE_CHECKING:
    from torch import Tensor

_Count = Annotated[int, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the learning rate goes from round to round, as a share of the task's own rate."""

    kind: Literal["constant", "cosine", "step"] = "constant"
    rounds: Annotated[int, Meta(ge=1)] = 30
    """In which round ``cosine`` has come down to `floor`; later rounds stay there."""
    floor: _Share = 0.05
    """The smallest share, of ``cosine`` and of ``step``."""
    every: Annotated[int, Meta(ge=1)] = 10
    drop: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """``step`` multiplies the rate by `drop` after every so many rounds."""
    warmup: _Count = 0
    """First rounds in which the rate rises evenly: round k has ``k / (warmup + 1)`` of it."""
    warmup_steps: _Count = 0
    """The same for the first steps of every round, while the new optimiser knows nothing."""


def share_of_round(plan: Plan, number: int) -> float:
    """The share of the task's learning rate in round `number`, which counts from 1.

    In (0, 1]; after the warm-up it never rises. Cosine as Loshchilov and Hutter, 2017, without
    restarts: ``floor + (1 - floor) · (1 + cos(π t)) / 2`` with t from 0 in the first round to 1
    in round `rounds`.
    """
    rise = min(1.0, number / (plan.warmup + 1))
    if plan.kind == "cosine":
        part = min(1.0, max(0, number - 1) / max(1, plan.rounds - 1))
        share = plan.floor + (1 - plan.floor) * (1 + math.cos(math.pi * part)) / 2
    elif plan.kind == "step":
        share = max(plan.floor, plan.drop ** (max(0, number - 1) // plan.every))
    else:
        share = 1.0
    return rise * share


def share_of_step(plan: Plan, step: int) -> float:
    """The share of the round's learning rate in step `step`, which counts from 0."""
    return min(1.0, (step + 1) / (plan.warmup_steps + 1))


def class_weights(targets: Tensor, classes: int, most: float = 10.0) -> Tensor:
    """What each class (classes) counts in the loss: inversely to its rows or pixels.

    The mean over all rows or pixels is 1; nothing counts more than `most` times as much as the
    commonest class. A class that is absent counts 1.
    """
    counts = torch.bincount(targets.flatten().cpu(), minlength=classes).double()
    there = counts > 0
    if not bool(there.any()):
        return torch.ones(classes)
    raw = torch.where(there, (counts.max() / counts.clamp(min=1)).clamp(max=most), 0.0)
    scaled = raw * counts.sum() / (raw * counts).sum()
    return torch.where(there, scaled, 1.0).float()
