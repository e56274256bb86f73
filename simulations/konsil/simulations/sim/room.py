"""Room: refuses a scenario that cannot fit this machine's memory, before anything is made.

What is counted is a lower bound: models, rows and the plan of a round's steps, by names and
sizes alone. A file's columns and rows are not known here and count as few. What gets past this
may still be too much.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from konsil.knowledge.networks import hidden_widths
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.emulate.limits import free_mb

if TYPE_CHECKING:
    from konsil.simulations.sim.scenario import Scenario

__all__ = ["check", "free_mb"]

KNOWN = {"digits": (1437, 64, 10), "breast_cancer": (455, 30, 2), "heart_disease": (486, 13, 2)}
"""Training rows, columns and classes of data sets whose size is known before they are read."""

_FEWEST = (0, 1, 2)
MODEL_COPIES = 3
"""A node's model before its training, after it, and mixed."""
STEP_BYTES = 48
"""Of one row in a step: its key, its place among the own rows and among all, and its weight."""


def check(scenario: Scenario, available_mb: int | None) -> None:
    """Raise `ConfigError` where the scenario needs more memory than that; None is unknown."""
    if available_mb is None:
        return
    parts = needed_bytes(scenario)
    total = sum(parts.values())
    if total <= available_mb * 1024**2:
        return
    key = max(parts, key=parts.__getitem__)
    raise ConfigError(
        f"{key}: this takes {total / 1e9:,.1f} GB of memory at least, and"
        f" {available_mb * 1024**2 / 1e9:.1f} GB are free",
        hint="lower it, or [population] nodes",
    )


def needed_bytes(scenario: Scenario) -> dict[str, int]:
    """How many bytes a run takes at least, by the key that is most to blame."""
    population, training = scenario.population, scenario.training
    rows, columns, classes = KNOWN.get(population.dataset, _FEWEST)
    total = rows if population.rows is None else population.rows * population.nodes
    total = max(total, 2 * population.nodes)
    elements = max((_elements(name, columns, classes) for name in population.models), default=0)
    if training.epochs is not None:
        key, steps = "[training] local_epochs", total * training.epochs
    else:
        key = "[training] local_steps"
        steps = (training.local_steps or 0) * min(training.batch * population.nodes, total)
    return {
        "[population] model": 4 * MODEL_COPIES * population.nodes * elements,
        "[population] rows": 4 * columns * total,
        key: STEP_BYTES * steps,
    }


def _elements(model: str, columns: int, classes: int) -> int:
    """Numbers of a model, where its name tells them; else 0."""
    hidden = hidden_widths(model)
    if hidden is None:
        return 0
    return sum((one + 1) * next_one for one, next_one in pairwise((columns, *hidden, classes)))
