"""Seeking: how far along a merged vector it pays to go, judged on the receiver's own rows.

A ladder of scales is tried from the base. Only a merged model whose private loss is strictly
below that of the model in use is accepted: law, what comes out is never worse on the held-back
rows than what went in, and at a tie nothing changes. Among the scales that pay, the largest
within one standard error of the best is taken (Breiman et al., 1984): held-back rows are few,
and the best of many noisy figures is often a timid scale, hardly away from an untrained base.
The record of what was tried is frozen, so that the decision can be logged and retold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.knowledge.vectors.vector import applied
from konsil.protocol.errors import ConfigError, ManifestRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from konsil.knowledge.judge import Judge
    from konsil.knowledge.named import NamedTensors

LADDER = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
"""The scales that are tried, in ascending order."""


@dataclass(frozen=True)
class Attempt:
    """A scale, the private loss of the model that it gives, and how sure that figure is.

    `error` is the standard error of its difference from the best attempt, 0 where the task's
    own loss does not tell. The loss is infinite where the weights overflowed.
    """

    scale: float
    loss: float
    error: float


@dataclass(frozen=True)
class Search:
    """What was tried: the private loss of the model in use, and every attempt in order.

    `chosen` is the scale of the accepted model; None when the receiver stays as it is.
    """

    loss: float
    attempts: tuple[Attempt, ...]
    chosen: float | None


def seek(
    judge: Judge,
    current: NamedTensors,
    base: NamedTensors,
    vector: NamedTensors,
    *,
    finish: Callable[[NamedTensors], NamedTensors] | None = None,
    ladder: Sequence[float] = LADDER,
) -> tuple[NamedTensors, Search]:
    """`current`, or the `base + scale * vector` that pays by `judge`, and what was tried.

    `finish` is done to each merged model before it is judged, usually the restoration of
    `konsil.knowledge.restoring`; hand in a `current` that was restored too. Raises
    `ConfigError` for an empty ladder or a scale that is not positive.
    """
    if not ladder or not all(0 < scale < math.inf for scale in ladder):
        raise ConfigError(f"scales must be positive numbers: {tuple(ladder)}", hint=f"{LADDER}")
    stay = judge.loss(current)
    trials: dict[float, NamedTensors] = {}
    losses = dict.fromkeys(ladder, math.inf)
    for scale in losses:
        try:
            trial = applied(base, vector, scale)
        except ManifestRefused:
            continue
        trials[scale] = trial if finish is None else finish(trial)
        losses[scale] = judge.loss(trials[scale])
    least = min(losses.values())
    best = trials.get(min(losses, key=losses.__getitem__))
    attempts = tuple(
        Attempt(scale, loss, _error(judge, trials.get(scale), best))
        for scale, loss in losses.items()
    )
    paying = [one.scale for one in attempts if one.loss < stay and one.loss - least <= one.error]
    if not paying:
        return current, Search(stay, attempts, None)
    return trials[max(paying)], Search(stay, attempts, max(paying))


def _error(judge: Judge, trial: NamedTensors | None, best: NamedTensors | None) -> float:
    if trial is None or best is None or trial is best:
        return 0.0
    return judge.gain(trial, best)[1]
