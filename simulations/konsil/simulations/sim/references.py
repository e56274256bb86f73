"""References: what the same nodes reach alone, and one model on everybody's rows.

Neither is a bound: a network may do better than its pooled data under the same schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from konsil.knowledge.train import seed_of
from konsil.simulations.sim.descent import Descent

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.sim.architecture import Architecture
    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.scores import Scores
    from konsil.simulations.sim.setting import Setting

MOST_STEPS = 20_000
"""Batches that the pooled model is trained for at most."""


def alone(setting: Setting, nodes: Nodes, scores: Scores, device: str) -> npt.NDArray[np.float64]:
    """The metric of each of these nodes after all rounds without any exchange, and any fault."""
    values = np.full(len(nodes), np.nan)
    for kind in setting.architectures:
        which = np.flatnonzero(np.isin(nodes, kind.nodes))
        if len(which):
            models = _alone(setting, kind, nodes[which], device)
            values[which] = scores.under(kind.network).of(models, nodes[which])
    return values


def _alone(setting: Setting, kind: Architecture, nodes: Nodes, device: str) -> Tensor:
    """(b, p): the models of these nodes of one architecture."""
    models = kind.base.to(device).repeat(len(nodes), 1)
    everyone = np.ones(len(nodes), dtype=bool)
    drifts = setting.scenario.population.drift > 0
    for number in range(1, setting.scenario.training.rounds + 1):
        if number == 1 or drifts:
            cohorts = setting.cohorts_at(number).of(nodes)
            descent = Descent(
                kind.network,
                cohorts.inputs.to(device),
                cohorts.targets.to(device),
                cohorts.train_rows,
                [setting.seeds[node] for node in nodes],
                setting.scenario.training,
            )
        models = descent.round(models, number, everyone)
    return models


class Pool:
    """One model trained on the rows of all honest nodes, in place of their own training.

    It passes over all rows as often as each node does over its own, but takes `MOST_STEPS` in
    a run at most. Rows that several nodes drew count once. Rows do not drift.
    """

    def __init__(self, setting: Setting, device: str, kind: Architecture | None = None) -> None:
        kind = kind or setting.architectures[0]
        cohorts, training = setting.cohorts, setting.scenario.training
        honest = np.flatnonzero(setting.honest)
        inputs = torch.cat([cohorts.inputs[i, : cohorts.train_rows[i]] for i in honest])
        targets = torch.cat([cohorts.targets[i, : cohorts.train_rows[i]] for i in honest])
        if setting.scenario.population.rows is not None:
            flat = torch.cat([inputs.flatten(1), targets[:, None].float()], dim=1)
            once = torch.from_numpy(np.unique(flat.numpy(), axis=0, return_index=True)[1])
            inputs, targets = inputs[once], targets[once]
        each = -(-len(inputs) // training.batch)
        steps = each * (training.epochs or 1)
        if training.local_steps is not None:
            steps = training.local_steps * len(honest)
        steps = max(1, min(steps, MOST_STEPS // training.rounds))
        self.model = kind.base.to(device)[None].clone()
        """(1, p): as it is now."""
        self._descent = Descent(
            kind.network,
            inputs[None].to(device),
            targets[None].to(device),
            np.array([len(inputs)]),
            [seed_of(setting.scenario.seed, "batches", "pooled")],
            msgspec.structs.replace(training, local_steps=steps, local_epochs=None),
        )

    def round(self, models: Tensor, number: int, active: Mask) -> Tensor:
        """The one model after round `number`, for every node of `models` (n, p)."""
        self.model = self._descent.round(self.model, number, np.ones(1, dtype=bool))
        return self.model.repeat(len(models), 1)


def pooled(setting: Setting, scores: Scores, device: str) -> float:
    """The mean metric, over the honest nodes, of one model of each one's network on all rows."""
    found = []
    for kind in setting.architectures:
        honest = kind.nodes[setting.honest[kind.nodes]]
        if len(honest) == 0:
            continue
        pool = Pool(setting, device, kind)
        for number in range(1, setting.scenario.training.rounds + 1):
            pool.round(pool.model, number, np.ones(1, dtype=bool))
        per_node = scores.under(kind.network).of_one(pool.model, honest)
        found.append(np.broadcast_to(per_node, len(honest)))
    every = np.concatenate(found)
    return float(np.nanmean(every)) if np.isfinite(every).any() else float("nan")
