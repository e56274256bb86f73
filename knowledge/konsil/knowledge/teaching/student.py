"""Student: a model that learns from a weaker peer's labels.

Weak labels are probabilities: either the consensus on an agreed question, or what the peer's
weak model, brought here, says of the hospital's own unlabelled rows; then nothing about those
rows leaves. Where the student is to trust itself as well (`Study.confidence`), its decisions are
balanced in every batch to the weak class shares. Whether it replaces the hospital's model, the
private holdout says (`konsil.trust.integrate.choose_better`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from konsil.knowledge.batches import keys_of
from konsil.knowledge.teaching import steps
from konsil.knowledge.teaching.distil import revise
from konsil.knowledge.teaching.selecting import confident
from konsil.knowledge.teaching.weak import RAMP, auxiliary_loss, confidence, decide
from konsil.knowledge.train import Trained, finished, predict, seed_of
from konsil.protocol.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Optimise, Task


@dataclass(frozen=True)
class Study:
    """How a student learns. Raises `ConfigError` for what cannot be.

    `confidence` (a of the auxiliary loss) is for students that decide better than the labels
    before they have learned from them, as large pretrained networks do. Small ones do not: what
    they say of themselves early on is worse than the labels, and would be confirmed. `share`
    below 1 keeps the most confident part of each class. `own_epochs` over the hospital's labelled
    rows follow; 0 makes a student of weak labels alone.
    """

    epochs: int = 20
    own_epochs: int = 0
    confidence: float = 0.0
    ramp: float = RAMP
    share: float = 1.0
    batch_size: int = 32
    rate: float | None = None
    optimise: Optimise | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.own_epochs) < 0 or self.batch_size < 1:
            raise ConfigError("a student's epochs must not be negative, a batch not empty")
        if not (0 <= self.confidence <= 1 and 0 <= self.ramp <= 1):
            raise ConfigError("a student's confidence and ramp are shares from 0 to 1")


def weak_labels(module: nn.Module, inputs: Tensor, *, temperature: float = 1.0) -> Tensor:
    """What a weak model says of rows (n × C, float64 probabilities), applied where they lie.

    Raises `TaskError` when an answer is not finite.
    """
    logits = predict(module, inputs).double()
    if not bool(torch.isfinite(logits).all()):
        raise TaskError("the weak model answers with values that are not finite")
    return torch.softmax(logits / temperature, dim=1)


def study(
    task: Task,
    start: NamedTensors,
    inputs: Tensor,
    weak: Tensor,
    *,
    seed: int,
    node: str,
    number: int,
    how: Study | None = None,
    device: str = "cpu",
) -> Trained:
    """A student from `start`, which is left unchanged; the loss is that on the weak labels.

    `inputs` are m unlabelled rows, `weak` their probabilities (m × C). Raises `TaskError` when
    these do not fit the task, or when the loss or a weight is no longer a finite number.
    """
    how = how or Study()
    fits = tuple(weak.shape) == (len(inputs), len(task.classes)) and len(inputs) > 0
    if not fits or task.problem != "classes":
        raise TaskError(
            f"weak labels of shape {tuple(weak.shape)} for {len(inputs)} rows cannot teach "
            f"task {task.name!r} of {len(task.classes)} {task.problem}"
        )
    chosen = confident(weak, how.share)
    with torch.random.fork_rng():
        torch.manual_seed(seed_of(seed, "student", node, str(number)))
        module = task.model()
        start.load_into(module)
        module.to(device)
        order = seed_of(seed, "weak", node)
        loss = _from_weak(task, module, inputs[chosen], weak[chosen], how, order, number)
        revise(task, module, how.own_epochs, seed=seed, node=node, number=number)
    return finished(module, loss, "a student")


def _from_weak(
    task: Task,
    module: nn.Module,
    inputs: Tensor,
    weak: Tensor,
    how: Study,
    order: int,
    number: int,
) -> float:
    """The epochs over weak labels; each batch is decided in the shares of its own labels.

    Decisions are those of the moment: a student that is held to what it decided an epoch ago
    learns its own first guesses by heart.
    """
    device = next(module.parameters()).device
    rows, labels = inputs.to(device), weak.float().to(device)
    total = steps.count(len(rows), size=how.batch_size, epochs=how.epochs)

    def cost(batch: Tensor, step: int) -> Tensor:
        logits, wanted = module(rows[batch]), labels[batch]
        a = confidence(step, total, most=how.confidence, ramp=how.ramp)
        decided = decide(logits, wanted.mean(dim=0)) if a > 0 else wanted.argmax(dim=1)
        return auxiliary_loss(logits, wanted, decided, a)

    return steps.follow(
        module,
        cost,
        keys_of([order], number),
        len(rows),
        size=how.batch_size,
        epochs=how.epochs,
        rate=how.rate or task.learning_rate,
        optimise=how.optimise,
    )
