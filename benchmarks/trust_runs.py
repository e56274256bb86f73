"""Runs for the tables of trust: one rule against one attack, in the simulator, in this process.

The main setting: 20 hospitals on a random 6-regular graph, Dirichlet 0.5, 40 rounds of five local
steps. An outcome is the balanced accuracy of honest nodes on the rows that nobody trains on, after
the last round, and the weights that honest nodes granted from a quarter of the rounds on.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from konsil.knowledge.split import random_source
from konsil.simulations.sim import setting as settings
from konsil.simulations.sim.attacks import backdoor
from konsil.simulations.sim.engine import Run, threads
from konsil.simulations.sim.holdouts import hold_back
from konsil.simulations.sim.populate import Plan, cohorts_of, plan_of
from konsil.simulations.sim.scenario import (
    Adversary,
    Population,
    Scenario,
    Topology,
    Training,
    Trust,
)
from konsil.simulations.sim.scores import Scores
from konsil.simulations.sim.setting import Setting, setting_of
from konsil.simulations.sim.shares import Shares

NODES = 20
MODELS = {"digits": "mlp:32", "breast_cancer": "logistic"}
RARE = (8, 9)
"""The classes of digits of which a minority has nearly all rows."""
MINORITY = 3
"""Hospitals that have them."""
THEIRS = 0.9
"""The share of those rows that they have."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to; weights are shares of what the graph foresees, NaN where of nobody."""

    mean: float
    worst: float
    attackers: float
    honest: float
    obeyed: float = math.nan
    """How often honest models obey a backdoor's pattern."""
    rare: float = math.nan
    """Recall of the rare classes at honest nodes of the majority."""
    ratio: float = math.nan
    """Weight that the majority grants the minority, over what it grants its own."""


def scenario(
    dataset: str, attack: str, rule: str, seed: int, *, fraction: float = 0.3,
    topology: Topology | None = None, alpha: float = 0.5, strength: float | None = None,
) -> Scenario:  # fmt: skip
    """The main setting, or one that differs from it; without an `attack` nobody is Byzantine."""
    return Scenario(
        seed=seed,
        population=Population(
            nodes=NODES, dataset=dataset, split="dirichlet", alpha=alpha, model=MODELS[dataset],
            metric="balanced_accuracy",
        ),
        topology=topology or Topology(kind="random_regular", degree=6),
        training=Training(rounds=40, local_steps=5),
        trust=Trust(rule=rule),
        adversary=Adversary(fraction=fraction, attack=attack, strength=strength)
        if attack else Adversary(),
    )  # fmt: skip


def outcome(wanted: Scenario, setting: Setting | None = None) -> Outcome:
    """Runs a scenario to its end; `setting` is its own, where that was changed."""
    setting = setting or setting_of(wanted, Path())
    setting = dataclasses.replace(setting, scenario=wanted)
    kept = wanted.training.rounds // 4
    weights = []
    with threads(setting.network.layout.elements):
        run = Run(setting, "cpu")
        for number in range(1, wanted.training.rounds + 1):
            run.round(number)
            if number > kept and run.heard is not None and run.granted is not None:
                weights.append(np.asarray(run.granted.double()))
        honest = np.flatnonzero(setting.honest)
        models = run.models[torch.from_numpy(honest)]
        values = _scores(setting).of(models, honest)
    attackers = granted = math.nan
    if weights:
        mean, links = np.mean(weights, 0), run.heard
        mine = setting.honest[links.receiver]
        attackers = _mean(mean[mine & ~setting.honest[links.sender]])
        granted = _mean(mean[mine & setting.honest[links.sender]])
    return Outcome(
        mean=float(values.mean()), worst=float(values.min()), attackers=attackers, honest=granted,
        obeyed=_obeyed(setting, models) if "backdoor" in wanted.adversary.attacks else math.nan,
    )  # fmt: skip


def with_minority(wanted: Scenario) -> tuple[Setting, np.ndarray]:
    """A setting of digits in which three honest nodes have most rows of the rare classes; and
    which these are. Their other rows stay with them, the majority's rare ones are dealt anew."""
    setting = setting_of(wanted, Path())
    few = np.flatnonzero(setting.honest)[:MINORITY]
    plan = plan_of(wanted.population, wanted.seed, Path())
    labels, random = plan.data.rows.labels, random_source("minority", wanted.seed)
    node = np.concatenate([plan.train.node, plan.holdout.node])
    row = np.concatenate([plan.train.row, plan.holdout.row])
    others = np.setdiff1d(np.arange(NODES), few)
    rare = np.flatnonzero(np.isin(labels[row], RARE))
    chosen = random.permutation(rare)
    cut = round(THEIRS * len(chosen))
    node[chosen[:cut]] = few[np.arange(cut) % MINORITY]
    node[chosen[cut:]] = others[np.arange(len(chosen) - cut) % len(others)]
    order = np.lexsort((row, node))
    dealt = Shares(NODES, node[order], row[order])
    train, holdout = hold_back(plan.data, dealt, wanted.population.holdout, wanted.seed)
    cohorts = cohorts_of(
        Plan(plan.data, train, holdout, plan.tests), wanted.population, wanted.seed
    )
    attacks = wanted.adversary.attacks
    poisoned = settings.poisoned(attacks, cohorts, setting.hostile, wanted.seed)
    changed = dataclasses.replace(setting, cohorts=cohorts, trained_on=poisoned)
    return changed, few


def minority_outcome(wanted: Scenario) -> Outcome:
    """`outcome` among whom a minority has the rare classes."""
    setting, few = with_minority(wanted)
    kept, weights = wanted.training.rounds // 4, []
    with threads(setting.network.layout.elements):
        run = Run(setting, "cpu")
        for number in range(1, wanted.training.rounds + 1):
            run.round(number)
            if number > kept and run.granted is not None:
                weights.append(np.asarray(run.granted.double()))
        honest = np.flatnonzero(setting.honest)
        values = _scores(setting).of(run.models[torch.from_numpy(honest)], honest)
        many = np.setdiff1d(honest, few)
        rare = _rare_recall(setting, run.models[torch.from_numpy(many)])
    figures = [math.nan] * 3
    if weights:
        mean, links = np.mean(weights, 0), run.heard
        mine = np.isin(links.receiver, many)
        figures = [_mean(mean[mine & np.isin(links.sender, of)]) for of in (few, many)]
        figures.append(_mean(mean[mine & np.isin(links.sender, setting.hostile)]))
    return Outcome(
        mean=float(values.mean()), worst=float(values.min()), attackers=figures[2],
        honest=figures[1], rare=rare, ratio=figures[0] / figures[1] if weights else math.nan,
    )  # fmt: skip


def as_json(outcome: Outcome) -> dict[str, float | None]:
    """An outcome for JSON."""
    return {
        name: None if math.isnan(value) else round(value, 5)
        for name, value in dataclasses.asdict(outcome).items()
    }


def _scores(setting: Setting) -> Scores:
    cohorts = setting.cohorts
    return Scores(
        setting.network, cohorts.test_inputs, cohorts.test_targets, classes=cohorts.classes,
        metric=cohorts.metric, device="cpu",
    )  # fmt: skip


def _answers(setting: Setting, models: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    return setting.network.outputs(models, inputs.expand(len(models), *inputs.shape)).argmax(-1)


def _obeyed(setting: Setting, models: torch.Tensor) -> float:
    cohorts = setting.cohorts
    share = backdoor.success(
        partial(_answers, setting, models), cohorts.test_inputs[0], cohorts.test_targets[0]
    )
    return math.nan if share is None else share


def _rare_recall(setting: Setting, models: torch.Tensor) -> float:
    targets = setting.cohorts.test_targets[0]
    answers = _answers(setting, models, setting.cohorts.test_inputs[0])
    return float(np.mean([(answers[:, targets == one] == one).double().mean() for one in RARE]))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan
