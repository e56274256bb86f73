"""Weak: the loss with which a strong student outgrows the weak labels that it is given.

The auxiliary-confidence loss (Burns et al., 2023, "Weak-to-strong generalization", section 4.3)
for any number of classes: ``(1 − a) · CE(f, weak) + a · CE(f, hard(f))``, where hard(f) is the
student's own decision, taken as constant. One bias a class is added to the student's logits
before it decides, such that its decisions have the class shares of the weak labels; for two
classes that is the quantile threshold of the paper. Without it, the commonest class would
confirm itself until no other is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

CONFIDENCE = 0.75
"""a, once it is reached."""
RAMP = 0.2
"""The part of all steps in which a grows from 0."""

_COOLING = tuple(2.0**-power for power in range(12))
_ROUNDS = 20
_COOLING_ROUNDS = 5


def confidence(step: int, steps: int, *, most: float = CONFIDENCE, ramp: float = RAMP) -> float:
    """a at this step of so many: linear from 0 to `most` over the first `ramp` of them."""
    return most * min(1.0, step / max(1.0, ramp * steps))


def auxiliary_loss(logits: Tensor, weak: Tensor, decided: Tensor, a: float) -> Tensor:
    """``(1 − a) · CE(f, weak) + a · CE(f, decided)``, the mean over rows.

    `weak` are probabilities (n × C), `decided` class indices (n) from `decide`.
    """
    return (1 - a) * functional.cross_entropy(logits, weak) + a * functional.cross_entropy(
        logits, decided
    )


def decide(logits: Tensor, shares: Tensor) -> Tensor:
    """The class (n) of each row of `logits` (n × C), in the given class shares.

    Class c gets ``n · shares_c`` rows, rounded by largest remainder, up to ties between rows
    and, for three classes and more, a few rows that no bias can part.
    """
    values = logits.detach().cpu().double()
    chosen: Tensor = (values + balancing(values, shares.cpu())).argmax(dim=1)
    return chosen.to(logits.device)


def balancing(logits: Tensor, shares: Tensor) -> Tensor:
    """The biases (C, float64) with which ``argmax(logits + bias)`` has these class shares.

    They solve the dual of an assignment problem, class by class, each at the quantile that gives
    it its rows; where that gets stuck it starts again from the softened problem, at falling
    temperatures, where ``bias += T log(wanted / given)`` converges (Sinkhorn, 1967). A class of
    share 0 gets minus infinity.
    """
    values = logits.detach().double()
    wanted = quotas(shares.double(), len(values))
    there = wanted > 0
    bias = torch.full((values.shape[1],), -torch.inf, dtype=torch.float64)
    if int(there.sum()) < 2:
        bias[there] = 0.0
        return bias
    inner, counts = values[:, there], wanted[there]
    found, left = _parted(inner, torch.zeros(len(counts), dtype=torch.float64), counts)
    if left > 0:
        softened, still = _parted(inner, _softened(inner, counts), counts)
        found = softened if still < left else found
    bias[there] = found - found.mean()
    return bias


def quotas(shares: Tensor, rows: int) -> Tensor:
    """Whole rows a class that sum to `rows`, nearest to the shares (largest remainder)."""
    exact = shares / shares.sum() * rows
    counts = exact.floor().long()
    rest = torch.argsort(exact - counts, descending=True, stable=True)
    counts[rest[: rows - int(counts.sum())]] += 1
    return counts


def _softened(values: Tensor, counts: Tensor) -> Tensor:
    bias = torch.zeros(values.shape[1], dtype=torch.float64)
    wanted = (counts / counts.sum()).log()
    spread = float(values.std().clamp(min=1e-12))
    for cooling in _COOLING:
        heat = spread * cooling
        for _ in range(_COOLING_ROUNDS):
            given = torch.log_softmax((values + bias) / heat, dim=1).logsumexp(0)
            bias = bias + heat * (wanted - (given - torch.tensor(len(values)).log()))
    return bias


def _parted(values: Tensor, bias: Tensor, counts: Tensor) -> tuple[Tensor, int]:
    """The best biases by quantiles from these on, and how many rows they miss."""
    best, least = bias, _missed(values, bias, counts)
    for _ in range(_ROUNDS):
        if least == 0:
            break
        bias = _by_quantiles(values, bias, counts)
        missed = _missed(values, bias, counts)
        if missed < least:
            best, least = bias, missed
    return best, least


def _by_quantiles(values: Tensor, bias: Tensor, counts: Tensor) -> Tensor:
    """Each bias in turn at the middle between the last row that it wins and the next."""
    bias = bias.clone()
    for place in range(len(bias)):
        raised = values + bias
        raised[:, place] = -torch.inf
        gaps = (raised.amax(dim=1) - values[:, place]).sort().values
        count = int(counts[place])
        below, above = gaps[count - 1], gaps[min(count, len(gaps) - 1)]
        bias[place] = (below + above) / 2 if count < len(gaps) else below + 1.0
    return bias


def _missed(values: Tensor, bias: Tensor, counts: Tensor) -> int:
    """How many rows are in another class than the quotas want, counted twice."""
    given = torch.bincount((values + bias).argmax(dim=1), minlength=len(bias))
    return int((given - counts).abs().sum())
