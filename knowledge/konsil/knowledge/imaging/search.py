"""Search: which of a few drawn settings learns best, judged on a hospital's own holdout.

All hospitals draw the same settings from the consortium's seed, each tries them on its own
patients, and tells nothing but one score for each setting, rounded. No model, no row and no
count leaves a hospital. Lower scores are better (they are private losses).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.stats import rankdata

from konsil.knowledge import train
from konsil.knowledge.judge import Judge
from konsil.knowledge.split import random_source
from konsil.protocol.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from konsil.knowledge.task import Task

Setting: TypeAlias = Mapping[str, object]
"""Values of task options by name."""

DIGITS = 3
"""Decimals of a score that leaves a hospital: fewer tell less of single patients."""


@dataclass(frozen=True)
class Choices:
    """One of a few values, each as likely."""

    values: tuple[object, ...]


@dataclass(frozen=True)
class LogRange:
    """A number between two positive ones, uniform in its logarithm; for rates."""

    low: float
    high: float


Space: TypeAlias = Mapping[str, Choices | LogRange]


def drawn(space: Space, count: int, seed: int) -> tuple[Setting, ...]:
    """`count` settings of random search (Bergstra and Bengio, 2012), the same for one seed.

    A longer search begins with the same settings. Raises `ConfigError` for an empty space.
    """
    if not space or count < 1:
        raise ConfigError("a search needs something to vary and one setting at least")
    for name, values in space.items():
        if isinstance(values, Choices) and not values.values:
            raise ConfigError(f"search: {name} has no values to choose from")
        if isinstance(values, LogRange) and not 0 < values.low <= values.high < math.inf:
            raise ConfigError(f"search: {name} needs 0 < low <= high")
    found = []
    for number in range(count):
        random = random_source("search", seed, number)
        found.append({name: _draw(space[name], random) for name in sorted(space)})
    return tuple(found)


def scores(
    task_of: Callable[[Setting], Task],
    settings: Sequence[Setting],
    *,
    seed: int,
    node: str,
    rounds: int,
    device: str = "cpu",
) -> tuple[float, ...]:
    """The private loss after `rounds` of local training with each setting, rounded.

    A setting that makes training fail has an infinite score; nobody then chooses it.
    """
    found = []
    for setting in settings:
        task = task_of(setting)
        model = train.initial_model(task, seed)
        try:
            for number in range(1, rounds + 1):
                model = train.train(
                    task, model, seed=seed, node=node, number=number, device=device
                ).model
        except TaskError:
            found.append(math.inf)
            continue
        found.append(round(Judge(task, device).loss(model), DIGITS))
    return tuple(found)


def best(told: Mapping[str, Sequence[float]]) -> int:
    """The place of the setting with the lowest mean rank over the hospitals' scores.

    Ranks, because losses of unlike hospitals have unlike scales; ties share a rank, and of equal
    settings the first is taken. A score that is not a number ranks last. Raises `ConfigError`
    where the hospitals did not score equally many settings.
    """
    lengths = {len(row) for row in told.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError("every hospital needs a score for each setting of the same search")
    table = np.array([list(told[name]) for name in sorted(told)], dtype=np.float64)
    ranks = rankdata(np.where(np.isnan(table), np.inf, table), axis=1)
    return int(ranks.mean(axis=0).argmin())


def _draw(values: Choices | LogRange, random: np.random.Generator) -> object:
    if isinstance(values, Choices):
        return values.values[int(random.integers(len(values.values)))]
    low, high = math.log(values.low), math.log(values.high)
    return math.exp(random.uniform(low, high))
