"""Populate: from a population and a seed to every node's rows, as tensors.

The data set is read, its training rows are dealt (or drawn), each node holds some back, and
inputs are standardised by training rows only: with ``split = "sites"`` each hospital by those it
trains on, as `konsil.knowledge.tabular` does it, else all nodes by all training rows of the data
set. The same population, seed and files give the same tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.cohort import scale
from konsil.knowledge.split import random_source
from konsil.protocol.errors import ConfigError
from konsil.simulations.sim import datasets
from konsil.simulations.sim.cohorts import Cohorts
from konsil.simulations.sim.draws import draw
from konsil.simulations.sim.holdouts import hold_back
from konsil.simulations.sim.scenario import POOL, POOL_SHARE, QUESTION_ROWS
from konsil.simulations.sim.shares import DEALS, Shares, deal, site_names
from konsil.simulations.sim.shifts import feature_shift

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from konsil.knowledge.cohort import Inputs
    from konsil.knowledge.split import Places
    from konsil.simulations.sim.datasets.dataset import DataSet
    from konsil.simulations.sim.scenario import Artifacts, Population

MAX_TEST_BYTES = 2 * 10**9
"""Most memory for the test sets of nodes that each see their own."""


@dataclass(frozen=True)
class Plan:
    """Who has which rows of a data set: all of a population but the numbers."""

    data: DataSet
    train: Shares
    holdout: Shares
    tests: tuple[Places, ...]
    """Test rows: one set for all nodes, or one for each."""
    asked: Places
    """Rows that nobody was dealt, to ask about; often none."""


def populate(population: Population, seed: int, folder: Path) -> Cohorts:
    """The rows of every node; a data file is looked up from `folder`.

    Raises `ConfigError` naming the key, or the file, that is wrong.
    """
    return cohorts_of(plan_of(population, seed, folder), population, seed)


def plan_of(
    population: Population, seed: int, folder: Path, artifacts: Artifacts | None = None
) -> Plan:
    """Which rows every node trains on, holds back and is tested on. Raises `ConfigError`.

    Where `artifacts` ask about a pool, its rows are set aside before the deal, and no patient of
    theirs is dealt.
    """
    data = datasets.read(population, folder)
    if population.split not in DEALS:
        raise ConfigError(
            f'[population] split = "{population.split}" is not known',
            hint=f"one of {', '.join(DEALS)}",
        )
    if len(np.unique(data.rows.labels)) < 2:
        raise ConfigError(
            f"[population] dataset = {population.dataset}: all rows are of one class",
            hint="is the label column the right one?",
        )
    data, aside = _aside(data, artifacts, seed)
    dealt = (deal if population.rows is None else draw)(data, population, seed)
    train, holdout = hold_back(data, dealt, population.holdout, seed)
    return Plan(data, train, holdout, _tests(data, population), aside)


def pool_inputs(plan: Plan, population: Population) -> Inputs:
    """The rows set aside (asked, …), standardised as those of a hospital that nobody has."""
    inputs = plan.data.rows.inputs
    own = population.split == "sites"
    centre, spread = scale(inputs[plan.asked if own else plan.data.train])
    standardised: Inputs = (inputs[plan.asked] - centre) / spread
    return standardised


def cohorts_of(plan: Plan, population: Population, seed: int) -> Cohorts:
    """The tensors of a plan, standardised and shifted.

    Raises `ConfigError` when test sets that differ between the nodes would fill the memory.
    """
    inputs, labels = plan.data.rows.inputs, plan.data.rows.labels
    nodes, columns = population.nodes, inputs.shape[1:]
    scales = _Scales.of(plan, population)
    train, holdout = scales.of_nodes(inputs, plan.train), scales.of_nodes(inputs, plan.holdout)
    tests = tuple(scales.single(inputs[rows], node) for node, rows in enumerate(plan.tests))
    targets = tuple(torch.from_numpy(labels[rows]) for rows in plan.tests)
    if len(tests) == 1 and (population.feature_shift > 0 or population.drift > 0):
        tests, targets = tests * nodes, targets * nodes
    if population.feature_shift > 0:
        _expect_room(tests)
        shift = feature_shift(nodes, columns, population.feature_shift, seed)
        train, holdout = shift.rows(train), shift.rows(holdout)
        tests = tuple(shift.view(one, node) for node, one in enumerate(tests))
    return Cohorts(
        inputs=train,
        targets=torch.from_numpy(labels[plan.train.padded()]),
        train_rows=plan.train.counts,
        holdout_inputs=holdout,
        holdout_targets=torch.from_numpy(labels[plan.holdout.padded()]),
        holdout_rows=plan.holdout.counts,
        test_inputs=tests,
        test_targets=targets,
        classes=len(plan.data.rows.classes),
        metric=population.metric,
    )


@dataclass(frozen=True)
class _Scales:
    """Mean and deviation of each column: one for all nodes, or one a node."""

    centre: Inputs
    spread: Inputs

    @classmethod
    def of(cls, plan: Plan, population: Population) -> _Scales:
        """Those of a plan, from rows that are trained on."""
        inputs = plan.data.rows.inputs
        if population.split == "sites":
            found = [scale(inputs[plan.train.of(node)]) for node in range(population.nodes)]
        else:
            found = [scale(inputs[plan.data.train])]
        return cls(np.stack([one for one, _ in found]), np.stack([one for _, one in found]))

    def single(self, inputs: Inputs, node: int) -> Tensor:
        """Rows as one node standardises them, in float32."""
        node %= len(self.centre)
        scaled = (inputs - self.centre[node]) / self.spread[node]
        return torch.from_numpy(scaled.astype(np.float32))

    def of_nodes(self, inputs: Inputs, shares: Shares) -> Tensor:
        """(nodes, most rows, …): each node's own rows, padded."""
        places = shares.padded()
        if len(self.centre) == 1:
            return self.single(inputs, 0)[torch.from_numpy(places)]
        return torch.stack([self.single(inputs[rows], node) for node, rows in enumerate(places)])


def _aside(data: DataSet, artifacts: Artifacts | None, seed: int) -> tuple[DataSet, Places]:
    """The data set without the patients who are asked about, and those rows of theirs."""
    if artifacts is None or artifacts.asked != POOL:
        return data, data.train[:0]
    asked = artifacts.question_rows or min(QUESTION_ROWS, len(data.train) // POOL_SHARE)
    if 2 * asked > len(data.train):
        raise ConfigError(
            f"[artifacts] question_rows = {asked} is more than half of the {len(data.train)}"
            " training rows",
            hint=f'at most {len(data.train) // 2}; or question = "random"',
        )
    people = data.people[data.train]
    order = random_source("question", seed).permutation(np.unique(people))
    rank = np.empty(int(people.max()) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    first = np.argsort(rank[people], kind="stable")[:asked]
    chosen = np.isin(people, people[first])
    return replace(data, train=data.train[~chosen]), np.sort(data.train[first])


def _tests(data: DataSet, population: Population) -> tuple[Places, ...]:
    if population.split != "sites":
        return (data.test,)
    column = np.array(data.sites)[data.test]
    found = {name: data.test[column == name] for name in site_names(data)}
    for name, rows in found.items():
        if len(rows) == 0:
            raise ConfigError(
                f'[population] split = "sites": hospital {name!r} has too few patients to test on',
                hint="leave it out of the data set, or take another split",
            )
    return tuple(found.values())


def _expect_room(tests: tuple[Tensor, ...]) -> None:
    size = sum(one.nbytes for one in tests)
    if size > MAX_TEST_BYTES:
        raise ConfigError(
            f"[population] feature_shift over {len(tests)} nodes needs {size / 1e9:.1f} GB for "
            "their own views of the test set",
            hint="take fewer nodes, or leave feature_shift out",
        )
