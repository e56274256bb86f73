"""Distil: learn from the answers of unlike models without seeing a row of theirs.

One round is FedMD's (Li and Wang, 2019): first `proxy_epochs` over the question towards the
consensus, then `own_epochs` over the hospital's labelled rows, so that the round as a whole
descends ``CE(own labels) + λ T² KL(q || p)``, with p the softmax at the same temperature T (the
factor T² keeps the gradients' size, Hinton et al., 2015). T is 1 for two classes, 2 to 3 for
more. Local training is the task's own, its `fit` and `loss` included.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from konsil.knowledge.batches import keys_of
from konsil.knowledge.task import Scheduled
from konsil.knowledge.teaching import steps
from konsil.knowledge.train import Trained, descend, finished, on_device, seed_of
from konsil.protocol.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Optimise, Task
    from konsil.knowledge.teaching.question import Question


@dataclass(frozen=True)
class Distillation:
    """How one round of distillation goes. Raises `ConfigError` for what cannot be.

    `rate` is the learning rate on the question, by default the task's; `optimise` replaces
    gradient descent there.
    """

    weight: float = 1.0
    """λ: what the question counts beside the hospital's own labels."""
    temperature: float = 1.0
    proxy_epochs: int = 2
    own_epochs: int = 2
    batch_size: int = 32
    rate: float | None = None
    optimise: Optimise | None = None

    def __post_init__(self) -> None:
        if self.weight < 0 or not self.temperature > 0:
            raise ConfigError("distillation: weight must not be negative, temperature positive")
        if min(self.proxy_epochs, self.own_epochs) < 0 or self.batch_size < 1:
            raise ConfigError("distillation: epochs must not be negative, a batch not empty")


def divergence(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """``T² KL(q || softmax(logits / T))``, the mean over rows; q (n × C) is the target."""
    shares = functional.log_softmax(logits / temperature, dim=1)
    return temperature**2 * functional.kl_div(shares, target, reduction="batchmean")


def distil(
    task: Task,
    start: NamedTensors,
    question: Question,
    target: Tensor,
    *,
    seed: int,
    node: str,
    number: int,
    how: Distillation | None = None,
    device: str = "cpu",
) -> Trained:
    """One round from `start`, which is left unchanged; the loss is that on the own rows.

    `target` (n × C) is the consensus on `question`. Raises `TaskError` when the loss or a
    weight is no longer a finite number, or when question and target do not fit the task.
    """
    how = how or Distillation()
    wanted = (len(question), len(task.classes))
    fits = question.classes == task.classes and tuple(target.shape) == wanted
    if not fits or task.problem != "classes":
        raise TaskError(
            f"a question on {question.classes} with a target of shape {tuple(target.shape)} "
            f"cannot teach task {task.name!r} of {task.problem} {task.classes}"
        )
    own_seed = seed_of(seed, "distil", node, str(number))
    with torch.random.fork_rng():
        torch.manual_seed(own_seed)
        module = task.model()
        start.load_into(module)
        module.to(device).train()
        _listen(task, module, question, target, how, seed_of(seed, "question", node), number)
        loss = revise(task, module, how.own_epochs, seed=seed, node=node, number=number)
    return finished(module, loss, f"round {number}: distillation")


def revise(
    task: Task, module: nn.Module, epochs: int, *, seed: int, node: str, number: int
) -> float:
    """Train `module` in place for `epochs` on the hospital's own rows; the mean loss, 0 if none.

    A task with a `fit` of its own is asked for its round `number`, whatever `epochs` above 0.
    """
    if epochs == 0:
        return 0.0
    module.train()
    if task.fit is None:
        own = dataclasses.replace(task, local_epochs=epochs, local_steps=None)
        return descend(own, module, keys_of([seed_of(seed, "batches", node)], number))
    generator = torch.Generator().manual_seed(seed_of(seed, "train", node, str(number)))
    device = str(next(module.parameters()).device)
    fit = task.fit.at(number) if isinstance(task.fit, Scheduled) else task.fit
    return float(fit(module, on_device(task.train, device), generator))


def _listen(
    task: Task,
    module: nn.Module,
    question: Question,
    target: Tensor,
    how: Distillation,
    order: int,
    number: int,
) -> None:
    """The epochs over the question; with λ = 0 there are none, so it changes no bit."""
    if how.weight == 0:
        return
    device = next(module.parameters()).device
    inputs, wanted = question.inputs.to(device), target.float().to(device)

    def cost(rows: Tensor, _: int) -> Tensor:
        logits = module(inputs[rows])
        return how.weight * divergence(logits, wanted[rows], how.temperature)

    steps.follow(
        module,
        cost,
        keys_of([order], number),
        len(question),
        size=how.batch_size,
        epochs=how.proxy_epochs,
        rate=how.rate or task.learning_rate,
        optimise=how.optimise,
    )
