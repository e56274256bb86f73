"""Workload: the common workload of all benchmarks of the simulator, as a setting.

Digits, split 80/20 and standardised by the training rows; these are shuffled once and cut into
equal parts, one a node, all of which it trains on: 22 rows at 64 nodes, two batches a round. The
network is the perceptron 64-32-10, the graph random and 4-regular, a round one epoch of plain
SGD (batch 16, rate 0.1). The rows that the cut leaves over, on which nobody trains, are the
holdouts: each node judges by `HOLDOUT` of them, or by all where they are fewer.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.split import random_source
from konsil.simulations.sim.scenario_reading import scenario_of
from konsil.simulations.sim.scores import Scores
from konsil.simulations.sim.setting import setting_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.setting import Setting

NODES = 64
ROUNDS = 50
HOLDOUT = 16


def scenario(rule: str, rounds: int, *, nodes: int = NODES, rows: int | None = None) -> Scenario:
    """The scenario of the workload under a rule; with `rows`, nodes draw so many each.

    It is evaluated at the end only.
    """
    population: dict[str, object] = {"nodes": nodes, "dataset": "digits", "model": "mlp:64-32-10"}
    if rows is not None:
        population["rows"] = rows
    return scenario_of(
        {
            "seed": 0,
            "population": population,
            "topology": {"kind": "random_regular", "degree": 4},
            "training": {"rounds": rounds, "local_epochs": 1, "batch": 16, "lr": 0.1},
            "trust": {"rule": rule},
            "output": {"eval_every": rounds},
        }
    )


def workload(rule: str, rounds: int = ROUNDS, *, nodes: int = NODES) -> Setting:
    """The setting of the workload under a rule, with the common cut of its rows."""
    setting = setting_of(scenario(rule, rounds, nodes=nodes), Path())
    cohorts = _cut(setting.cohorts, nodes)
    return dataclasses.replace(setting, cohorts=cohorts, trained_on=cohorts)


def accuracy(setting: Setting, models: Tensor) -> float:
    """Mean over all nodes of the accuracy of their own models (n, p) on the common test rows."""
    cohorts = setting.cohorts
    scores = Scores(
        setting.network,
        cohorts.test_inputs,
        cohorts.test_targets,
        classes=cohorts.classes,
        metric="accuracy",
        device="cpu",
    )
    return float(scores.of(models, np.arange(len(models))).mean())


def metropolis(setting: Setting) -> npt.NDArray[np.float64]:
    """(n, n): the mixing weights of the first graph, the own one included; rows sum to one."""
    links = setting.graphs.at(1)
    degrees: Nodes = links.degrees
    matrix = np.zeros((links.nodes, links.nodes))
    larger = np.maximum(degrees[links.receiver], degrees[links.sender])
    matrix[links.receiver, links.sender] = 1 / (1 + larger)
    matrix += np.diag(1 - matrix.sum(axis=1))
    return matrix


def _cut(dealt: Cohorts, nodes: int) -> Cohorts:
    """The rows of the common definition, in place of those that a scenario deals."""
    from konsil.simulations.sim.datasets import digits

    data = digits.read()
    chosen = data.rows.inputs[data.train]
    centre, spread = chosen.mean(axis=0), chosen.std(axis=0)
    inputs = torch.from_numpy(
        ((chosen - centre) / np.where(spread == 0, 1, spread)).astype(np.float32)
    )
    targets = torch.from_numpy(data.rows.labels[data.train])
    order = random_source("bench", "cut").permutation(len(inputs))
    each = len(order) // nodes
    own = torch.from_numpy(order[: nodes * each].reshape(nodes, each))
    rest = order[nodes * each :]
    held = min(HOLDOUT, len(rest))
    draws = random_source("bench", "holdout")
    judge = torch.from_numpy(np.stack([draws.permutation(rest)[:held] for _ in range(nodes)]))
    return dataclasses.replace(
        dealt,
        inputs=inputs[own],
        targets=targets[own],
        train_rows=np.full(nodes, each),
        holdout_inputs=inputs[judge],
        holdout_targets=targets[judge],
        holdout_rows=np.full(nodes, held),
    )
