"""Site: one node of a scenario as the task of a real daemon.

`build` is the task factory ``konsil.simulations.sim.site:build``, with the options `scenario`
(the path of a scenario file, or its text) and `site` (the number of the node). Rows, holdout and
test set are those that the simulator gives this node, so that both can be compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec

from konsil.knowledge.task import Rows, Task, TaskConfig
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim.lessons.asking import question_of
from konsil.simulations.sim.models import model_of
from konsil.simulations.sim.populate import Plan, cohorts_of, plan_of
from konsil.simulations.sim.scenario_checks import check
from konsil.simulations.sim.scenario_reading import read_scenario, scenario_of

if TYPE_CHECKING:
    from konsil.knowledge.split import Places
    from konsil.knowledge.teaching.question import Question
    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.scenario import Scenario


class SiteOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[task.options]` of one node of a scenario."""

    scenario: str
    """A path, relative to the home, or the TOML text itself (which has more than one line)."""
    site: int
    """Which node, from 0."""


@dataclass(frozen=True)
class _Node:
    """A node of a scenario with everything that the simulator gives it."""

    number: int
    scenario: Scenario
    folder: Path
    plan: Plan
    cohorts: Cohorts


def build(config: TaskConfig) -> Task:
    """The task of one node. Raises `ConfigError` naming the option or the key."""
    node = _node(config)
    population, training = node.scenario.population, node.scenario.training
    cohorts, plan, i = node.cohorts, node.plan, node.number
    model = population.models[i % len(population.models)]
    train, holdout = int(cohorts.train_rows[i]), int(cohorts.holdout_rows[i])
    return Task(
        name=task_name(population.dataset, model),
        classes=plan.data.rows.classes,
        model=model_of(model, cohorts.columns, cohorts.classes, node.folder),
        train=Rows(
            cohorts.inputs[i, :train].clone(),
            cohorts.targets[i, :train].clone(),
            _patients(plan, plan.train.of(i)),
        ),
        holdout=Rows(
            cohorts.holdout_inputs[i, :holdout].clone(),
            cohorts.holdout_targets[i, :holdout].clone(),
            _patients(plan, plan.holdout.of(i)),
        ),
        metric=population.metric,
        local_epochs=training.epochs or 1,
        local_steps=training.local_steps,
        batch_size=training.batch,
        learning_rate=training.lr,
        question=partial(common_question, config) if node.scenario.artifacts.answers else None,
        test=partial(common_test, config),
    )


def common_test(config: TaskConfig) -> Rows:
    """The rows on which the simulator tests this node. Raises `ConfigError` as `build` does."""
    node = _node(config)
    place = node.number if len(node.cohorts.test_inputs) > 1 else 0
    tests = node.plan.tests
    patients = _patients(node.plan, tests[place if len(tests) > 1 else 0])
    return Rows(node.cohorts.test_inputs[place], node.cohorts.test_targets[place], patients)


def common_question(config: TaskConfig) -> Question:
    """What the simulator asks all nodes. Raises `ConfigError` as `build` does."""
    node = _node(config)
    question = question_of(node.plan, node.scenario)
    if question is None:
        raise ConfigError("[artifacts] kinds: nothing is asked where networks' weights travel")
    return question


def _node(config: TaskConfig) -> _Node:
    try:
        options = msgspec.convert(dict(config.options), SiteOptions, strict=True)
    except msgspec.ValidationError as fault:
        raise ConfigError(f"[task.options] {fault}", hint="options are scenario, site") from None
    scenario, folder = _scenario(config, options)
    population = scenario.population
    if not 0 <= options.site < population.nodes:
        raise ConfigError(
            f"[task.options] site = {options.site} is no node of the scenario",
            hint=f"0 to {population.nodes - 1}",
        )
    if population.drift > 0:
        raise ConfigError(
            "[population] drift moves the rows between rounds, which the task of a daemon cannot",
            hint="take drift out, or use konsil sim run",
        )
    plan = plan_of(population, scenario.seed, folder, scenario.artifacts)
    cohorts = cohorts_of(plan, population, scenario.seed)
    return _Node(options.site, scenario, folder, plan, cohorts)


def _scenario(config: TaskConfig, options: SiteOptions) -> tuple[Scenario, Path]:
    """The scenario, and the folder from which its files are looked up."""
    if "\n" not in options.scenario:
        path = config.home / Path(options.scenario).expanduser()
        return read_scenario(path), path.parent
    try:
        values = msgspec.toml.decode(options.scenario)
    except msgspec.DecodeError as fault:
        raise ConfigError(f"[task.options] scenario: this is not TOML: {fault}") from fault
    scenario = scenario_of(values)
    check(scenario)
    return scenario, config.home


def _patients(plan: Plan, rows: Places) -> tuple[str, ...]:
    return tuple(plan.data.rows.patients[row] for row in rows)


def task_name(dataset: str, model: str) -> str:
    """What the task of all nodes is called."""
    return re.sub(r"[^!-~]", "-", f"sim/{PurePath(dataset).stem}/{model}")[:128]
