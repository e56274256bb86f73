"""Post: what is under way between nodes in a round, honest or forged, fresh or late.

A node sends the model that it has just trained, or what that answers. What a Byzantine node sends
comes from its attack; what is late is what its sender released in that earlier round. A data
vector, the difference from the common start model, is counted as the model that it makes of that.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.train import seed_of
from konsil.simulations.sim.attacks.forge import forge
from konsil.simulations.sim.attacks.view import Learning, View

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.faults import Condition
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.setting import Setting


class Post:
    """Remembers what was released as long as it may still arrive."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        late = setting.scenario.faults.delay_rounds
        self._released: deque[Tensor] = deque(maxlen=late + 1)
        question = setting.question
        self._classes = 0 if question is None else len(question.classes)
        self._learning: Learning | None = None
        """What Byzantine nodes try models on, since their first round."""
        self.bytes = 4 * setting.network.layout.elements
        """Of one model or vector that travels: float32, without headers and envelope; answers
        take two bytes each."""
        if question is not None:
            self.bytes = 2 * len(question) * self._classes

    def sent(
        self, number: int, condition: Condition, before: Tensor, trained: Tensor
    ) -> tuple[Tensor, Nodes]:
        """The table of models under way, and the row that each link of the condition brings.

        `before` and `trained` have a row for every node; `before` is read only where somebody
        is Byzantine. Where each link brings what its sender trained in this round, the rows are
        the `sender` of the condition's links itself.
        """
        links = condition.links
        released, extra, source = trained, None, links.sender
        hostile = self._setting.hostile
        if len(hostile):
            released, extra, at, brings = self._forged(number, condition, before, trained)
            if extra is not None:
                own = brings >= len(hostile)
                source = source.copy()
                source[at[own]] = len(trained) + brings[own] - len(hostile)
        self._released.appendleft(released)
        tables = [released] if extra is None else [released, extra]
        late = condition.delay > 0
        if late.any():
            ahead = sum(map(len, tables))
            tables += list(self._released)[1:]
            source = source.copy()
            source[late] = ahead + (condition.delay[late] - 1) * len(trained) + links.sender[late]
        table = tables[0] if len(tables) == 1 else torch.cat(tables)
        if self._setting.scenario.artifacts.kind == "data_vector":
            base = self._setting.base.to(table)
            table = base + (table - base)  # what arrives is a vector, and stands for this model
        return table, source

    def _forged(
        self, number: int, condition: Condition, before: Tensor, trained: Tensor
    ) -> tuple[Tensor, Tensor | None, Nodes, Nodes]:
        """What all release, rows for single links, and which hostile link brings which row."""
        scenario, hostile = self._setting.scenario, self._setting.hostile
        generator = torch.Generator().manual_seed(seed_of(scenario.seed, "attack", str(number)))
        if self._learning is None and self._setting.question is None:
            self._learning = Learning.of(
                self._setting.network, self._setting.cohorts, hostile, trained.device.type
            )
        view = View(
            number=number,
            rounds=scenario.training.rounds,
            before=before,
            trained=trained,
            links=condition.links,
            hostile=hostile,
            strength=scenario.adversary.strength,
            generator=generator,
            classes=self._classes,
            learning=self._learning,
        )
        forged = forge(scenario.adversary.attacks, view)
        released = trained.clone()
        released[torch.from_numpy(hostile).to(trained.device)] = forged.rows[: len(hostile)]
        extra = forged.rows[len(hostile) :]
        nothing = np.zeros(0, dtype=np.int64)
        if len(extra) == 0:
            return released, None, nothing, nothing
        return released, extra, forged.links, forged.source
