"""Students: all nodes of a scenario, whatever their networks, with their private rows.

Models are one matrix for each architecture. Callers speak of nodes by their numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from konsil.knowledge.teaching.answers import written
from konsil.knowledge.teaching.witness import is_witness
from konsil.protocol.errors import TaskError
from konsil.simulations.sim.descent import Descent
from konsil.simulations.sim.judging import Judging
from konsil.simulations.sim.lessons.pupils import Pupils
from konsil.simulations.sim.setting import name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from konsil.knowledge.teaching.question import Question
    from konsil.simulations.sim.architecture import Architecture
    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.setting import Setting

Models: TypeAlias = "tuple[Tensor, ...]"
"""For each architecture (b, p) with a row for each of its nodes."""


class Students:
    """Training, answering, learning from answers and private losses, for many nodes at once."""

    def __init__(self, setting: Setting, question: Question, device: str) -> None:
        self.setting, self._device = setting, device
        self._kinds = setting.architectures
        self._of = np.empty((2, setting.nodes), dtype=np.int64)
        """Architecture of each node, and its row there."""
        for place, kind in enumerate(self._kinds):
            self._of[0, kind.nodes] = place
            self._of[1, kind.nodes] = np.arange(len(kind.nodes))
        inputs, training = question.inputs.to(device), setting.scenario.training
        self._pupils = [
            Pupils(kind.network, inputs, setting.scenario.seed, training.lr) for kind in self._kinds
        ]
        self._weak = setting.scenario.artifacts.kind == "weak_labels"
        self.see(1)

    def see(self, number: int) -> None:
        """From now on patients look as they do in round `number`."""
        cohorts = self.setting.cohorts_at(number)
        trained_on = self.setting.trained_on_at(number)
        self._judging = [
            Judging(kind.network, cohorts.of(kind.nodes), self._device) for kind in self._kinds
        ]
        self._rows = [trained_on.of(kind.nodes) for kind in self._kinds]
        self._descents = [
            self._descent(kind, rows) for kind, rows in zip(self._kinds, self._rows, strict=True)
        ]

    def _descent(self, kind: Architecture, cohorts: Cohorts) -> Descent:
        return Descent(
            kind.network,
            cohorts.inputs.to(self._device),
            cohorts.targets.to(self._device),
            cohorts.train_rows,
            [self.setting.seeds[node] for node in kind.nodes],
            self.setting.scenario.training,
        )

    def start(self) -> Models:
        """The models with which all begin."""
        return tuple(kind.base.to(self._device).repeat(len(kind.nodes), 1) for kind in self._kinds)

    def trained(self, models: Models, number: int, active: Mask) -> Models:
        """The models after the training of a round; who is not active keeps its own.

        Raises `TaskError` where training ended in weights without a value.
        """
        found = tuple(
            descent.round(rows, number, active[kind.nodes])
            for descent, rows, kind in zip(self._descents, models, self._kinds, strict=True)
        )
        if not all(bool(torch.isfinite(rows).all()) for rows in found):
            raise TaskError(
                f"round {number}: training left nodes with weights that are no numbers",
                hint="lower [training] lr, or look for missing values in the inputs",
            )
        return found

    def sheets(self, models: Models) -> Tensor:
        """(n, m, C): what all nodes answer, on the CPU.

        Raises `TaskError` when an answer is not a number.
        """
        parts = [p.answers(rows).cpu() for p, rows in zip(self._pupils, models, strict=True)]
        order = np.argsort(np.concatenate([kind.nodes for kind in self._kinds]))
        outputs = torch.cat(parts)[torch.from_numpy(order)]
        if not bool(torch.isfinite(outputs).all()):
            raise TaskError(
                "a model answers the question with values that are not finite",
                hint="lower [training] lr",
            )
        return written(outputs)

    def witnesses(self, models: Models, seen: Tensor) -> Tensor:
        """(n) bool, on the CPU: whose model has learned what its own rows say, judged on the
        classes `seen` (n, C) of each."""
        found = torch.empty(len(seen), dtype=torch.bool)
        for kind, rows, stacked in zip(self._kinds, self._rows, models, strict=True):
            parts = (
                (rows.inputs, rows.targets, rows.train_rows),
                (rows.holdout_inputs, rows.holdout_targets, rows.holdout_rows),
            )
            for place, node in enumerate(kind.nodes.tolist()):
                said, told = [], []
                for inputs, targets, count in parts:
                    mine = inputs[place : place + 1, : count[place]].to(self._device)
                    said.append(kind.network.outputs(stacked[place : place + 1], mine)[0].cpu())
                    told.append(targets[place, : count[place]])
                found[node] = is_witness(torch.cat(said), torch.cat(told), seen[node])
        return found

    def taught(
        self, models: Models, nodes: Nodes, targets: Tensor, number: int, *, start: Models
    ) -> Models:
        """`models`, but for these nodes (s, each once) what they learned from targets (s, m, C),
        each from its model in `start`."""
        found = tuple(rows.clone() for rows in models)
        for kind, which, rows in self._alike(nodes):
            pupils = self._pupils[kind]
            learn = pupils.studied if self._weak else pupils.distilled
            goal = targets[torch.from_numpy(which)]
            found[kind][rows] = learn(start[kind][rows], _names(nodes[which]), goal, number)
        return found

    def losses(self, models: Models, nodes: Nodes) -> Tensor:
        """(s): the private losses of these nodes' models, on the CPU in float64."""
        found = torch.empty(len(nodes), dtype=torch.float64)
        for kind, which, rows in self._alike(nodes):
            losses = self._judging[kind].losses(models[kind][rows], rows)
            found[torch.from_numpy(which)] = losses.cpu()
        return found

    def _alike(self, nodes: Nodes) -> Iterator[tuple[int, Nodes, Tensor]]:
        """For each architecture among nodes (s): which of them it has, and their rows there."""
        kinds, rows = self._of[:, nodes]
        for kind in np.unique(kinds).tolist():
            which = np.flatnonzero(kinds == kind)
            yield kind, which, torch.from_numpy(rows[which]).to(self._device)


def replaced(models: Models, others: Models, nodes: Nodes, setting: Setting) -> Models:
    """`models`, with those of these nodes taken from `others`."""
    found = tuple(rows.clone() for rows in models)
    for rows, new, kind in zip(found, others, setting.architectures, strict=True):
        mine = torch.from_numpy(np.isin(kind.nodes, nodes)).to(rows.device)
        rows[mine] = new[mine]
    return found


def _names(nodes: Nodes) -> list[str]:
    return [name_of(node) for node in nodes.tolist()]
