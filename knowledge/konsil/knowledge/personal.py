"""Personal: a hospital's own model beside the one that it shares.

Ditto (Li et al., 2021) trains a second model `w` on `loss + mu/2 |w - x|²`, where `x` is the
consensus model, which is left unchanged and stays for newcomers. A local head or local
normalisation keeps some tensors out of the pull and out of what is taken over. Laws: with mu
0, Ditto is plain local training, bit for bit; what is named local is never the consensus's.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from konsil.knowledge.batches import keys_of
from konsil.knowledge.judge import local_names
from konsil.knowledge.task import Scheduled
from konsil.knowledge.train import Trained, descend, seed_of, train
from konsil.knowledge.vectors.subset import laid_over
from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Generator, Tensor, nn

    from konsil.knowledge.named import NamedTensors
    from konsil.knowledge.task import Rows, Task


def with_own(consensus: NamedTensors, own: NamedTensors, names: Collection[str]) -> NamedTensors:
    """The consensus model with the tensors `names` of the hospital's `own` model.

    `konsil.knowledge.judge.local_names` gives the names. Raises `LocalProtocolError` when a
    name is not in `own`, `ManifestRefused` when the two models differ there.
    """
    return laid_over(consensus, own.select(names), tuple(names)) if names else consensus


def train_personal(
    task: Task,
    personal: NamedTensors,
    consensus: NamedTensors,
    *,
    mu: float,
    seed: int,
    node: str,
    number: int,
    device: str = "cpu",
) -> Trained:
    """One round of Ditto from `personal`, drawn towards `consensus`; both are left unchanged.

    The pull `mu (w - x)` is added to every gradient, so it goes with the task's own `fit` too,
    as long as that computes gradients once a step; the loss told is the task's, without the
    pull. Useful mu: 0.1 to 1. Raises `ConfigError` for a negative mu, or one so large that
    plain descent would swing out, and as `konsil.knowledge.train.train` does.
    """
    if not 0 <= mu < math.inf:
        raise ConfigError(f"mu = {mu} must be a number from 0 on", hint="0.1 to 1 is usual")
    if task.fit is None and mu * task.learning_rate >= 1:
        raise ConfigError(
            f"mu = {mu} overshoots at a learning rate of {task.learning_rate}",
            hint=f"take a mu below {1 / task.learning_rate:g}",
        )

    def fit(module: nn.Module, rows: Rows, generator: Generator) -> float:
        free = set(local_names(task, module))
        hooks = [
            weight.register_hook(  # type: ignore[no-untyped-call]
                _pull(weight, consensus[name].to(weight.device), mu)
            )
            for name, weight in module.named_parameters()
            if mu > 0 and weight.requires_grad and name not in free
        ]
        try:
            own = task.fit.at(number) if isinstance(task.fit, Scheduled) else task.fit
            if own is not None:
                return own(module, rows, generator)
            return descend(task, module, keys_of([seed_of(seed, "batches", node)], number))
        finally:
            for hook in hooks:
                hook.remove()

    drawn = dataclasses.replace(task, fit=fit)
    return train(drawn, personal, seed=seed, node=node, number=number, device=device)


def _pull(weight: nn.Parameter, centre: Tensor, mu: float) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient + mu * (weight.detach() - centre)
