"""Fitting: one round of local training on images, as the `fit` of a task.

Mini-batches in an order drawn from the round's generator, augmented, with the rate of the plan,
the class weights of the hospital's own rows and, for masks, the soft Dice loss beside the
cross-entropy. The optimiser begins anew each round and is never shared.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn import functional

from konsil.knowledge.imaging.augment import Augmentation, augmented
from konsil.knowledge.imaging.plans import Plan, class_weights, share_of_round, share_of_step
from konsil.protocol.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Generator, Tensor, nn

    from konsil.knowledge.task import Rows

MOST_GRADIENT = 1.0
"""Gradients longer than this are shortened: a first batch must not throw a network off."""


@dataclasses.dataclass(frozen=True)
class Fitting:
    """How a round is trained. Calling it trains round `number`; `at` is the same for another."""

    classes: int
    rate: float
    batch: int = 8
    epochs: int = 1
    steps: int | None = None
    """Batches of a round in place of whole epochs; fewer or more than the rows give."""
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    plan: Plan = dataclasses.field(default_factory=Plan)
    weighted: bool = False
    """Whether classes count inversely to their rows or pixels here."""
    dice: float = 0.0
    """What the soft Dice loss counts beside the cross-entropy; for masks only."""
    number: int = 1

    def __post_init__(self) -> None:
        steps = 1 if self.steps is None else self.steps
        if min(self.batch, self.epochs, steps, self.number) < 1 or self.rate <= 0:
            raise ConfigError("a fitting needs a batch, epochs, steps and a rate above zero")

    def at(self, number: int) -> Fitting:
        """The fitting of round `number`, which counts from 1."""
        return dataclasses.replace(self, number=number)

    def __call__(self, module: nn.Module, rows: Rows, generator: Generator) -> float:
        """Train `module` in place and return the mean loss of all batches.

        Raises `TaskError` at the first loss that is not finite.
        """
        device = rows.inputs.device
        weights = class_weights(rows.targets, self.classes).to(device) if self.weighted else None
        rate = self.rate * share_of_round(self.plan, self.number)
        optimiser = self.optimise(module.parameters(), rate)
        losses: list[float] = []
        for step, batch in enumerate(self._batches(len(rows), generator)):
            for group in optimiser.param_groups:
                group["lr"] = rate * share_of_step(self.plan, step)
            inputs, targets = rows.inputs[batch.to(device)], rows.targets[batch.to(device)]
            if self.augmentation.active:
                inputs, targets = augmented(inputs, targets, self.augmentation, generator)
            optimiser.zero_grad()
            loss = self._loss(module(inputs), targets, weights)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise TaskError(
                    f"the loss of batch {len(losses)} is {losses[-1]}",
                    hint="lower the learning rate, or look for missing values in the images",
                )
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(module.parameters(), MOST_GRADIENT)
            optimiser.step()
        return math.fsum(losses) / len(losses)

    def optimise(
        self, parameters: Iterable[nn.Parameter], rate: float | None = None
    ) -> torch.optim.Optimizer:
        """A new optimiser of this kind, by default at the full rate."""
        rate = self.rate if rate is None else rate
        if self.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=rate)
        return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum)

    def _batches(self, rows: int, generator: Generator) -> list[Tensor]:
        """Row numbers of each step; the batches of one shuffle are of nearly equal size."""
        each = -(-rows // self.batch)
        wanted = self.epochs * each if self.steps is None else self.steps
        found: list[Tensor] = []
        while len(found) < wanted:
            found += torch.randperm(rows, generator=generator).tensor_split(each)
        return found[:wanted]

    def _loss(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        loss = functional.cross_entropy(outputs, targets, weight=weights)
        if self.dice and targets.ndim == 3:
            loss = loss + self.dice * soft_dice_loss(outputs, targets)
        return loss


def soft_dice_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """One minus the mean soft Dice of the foreground classes (Milletari et al., 2016).

    Outputs (n, classes, h, w) and targets (n, h, w), over all pixels of the batch. One pixel is
    added to both sides of the fraction, so that a class that is nowhere costs nothing when it is
    not predicted.
    """
    shares = outputs.softmax(dim=1)
    truth = functional.one_hot(targets, outputs.shape[1]).movedim(-1, 1).to(shares)
    over = (0, 2, 3)
    both = (shares * truth).sum(over)
    sizes = shares.sum(over) + truth.sum(over)
    dice = (2 * both + 1) / (sizes + 1)
    return 1 - dice[1:].mean()
