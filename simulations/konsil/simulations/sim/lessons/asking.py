"""Asking: the question that all nodes of a scenario answer, and that nobody's patient is in.

A pool of the data set's own rows that no node was dealt, without their labels (as public images
would be), or random standardised values. Answers are comparable whatever the networks are.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from konsil.knowledge.teaching import generated
from konsil.knowledge.teaching.question import Question, table
from konsil.simulations.sim.populate import pool_inputs
from konsil.simulations.sim.scenario import POOL, QUESTION_ROWS

if TYPE_CHECKING:
    from konsil.simulations.sim.populate import Plan
    from konsil.simulations.sim.scenario import Scenario


def question_of(plan: Plan, scenario: Scenario) -> Question | None:
    """The question of a scenario whose plan has set its pool aside; None where none is asked.

    Raises `ConfigError` for values that are missing or far out of range.
    """
    artifacts, rows = scenario.artifacts, plan.data.rows
    if not artifacts.answers:
        return None
    if artifacts.asked == POOL:
        return table(pool_inputs(plan, scenario.population), rows.classes)
    columns = rows.inputs.shape[1:]
    drawn = generated.gaussian(
        artifacts.question_rows or QUESTION_ROWS,
        math.prod(columns),
        rows.classes,
        seed=scenario.seed,
    )
    return replace(drawn, levels=drawn.levels.reshape(-1, *columns))
