"""Gauging: from the homes that daemons left to the result that a simulation would give.

Models are scored as in the simulator, on the scenario's test rows and without a local intercept.
A node's model in a round of the scenario is that after its last own round until then, the start
model before any. Weights are those in the ledgers. What is not measured is None: the processors'
time of daemons is not that of a loop.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge import pack
from konsil.node.paths import Home
from konsil.node.store.blobs import BlobStore
from konsil.protocol.errors import KonsilError
from konsil.simulations import reading
from konsil.simulations.sim.references import alone, pooled
from konsil.simulations.sim.result import Point
from konsil.simulations.sim.scores import Scores
from konsil.simulations.sim.setting import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.facts import Judgement
    from konsil.simulations.sim.emulate.timetable import Timetable
    from konsil.simulations.sim.links import Mask
    from konsil.simulations.sim.setting import Setting

    Values = npt.NDArray[np.float64]


class Gauge:
    """Measures the honest nodes of a run that is over."""

    def __init__(
        self, setting: Setting, timetable: Timetable, homes: Mapping[str, Path],
        members: Mapping[str, str],
    ) -> None:  # fmt: skip
        self._setting, self._timetable, self._homes = setting, timetable, homes
        self._stories = reading.read(homes)
        self._honest = np.flatnonzero(setting.honest)
        cohorts = setting.cohorts
        self._scores = Scores(
            setting.network, cohorts.test_inputs, cohorts.test_targets,
            classes=cohorts.classes, metric=cohorts.metric, device="cpu",
        )  # fmt: skip
        self._weights = weights(
            reading.judgements(self._stories, members), setting.honest, timetable.number_of
        )
        """Granted shares in each round: to attackers, to honest nodes."""

    def metrics(self, number: int) -> Values:
        """The metric of every honest node's model after a round of the scenario."""
        found = [self._model(int(node), number) for node in self._honest]
        base = self._setting.base
        rows = torch.stack([base if one is None else one for one in found])
        values = self._scores.of(rows, self._honest)
        values[[one is None for one in found]] = np.nan
        return values

    def history(self) -> tuple[Point, ...]:
        """What a simulation would have measured on the way."""
        scenario = self._setting.scenario
        every, rounds = scenario.eval_every, scenario.training.rounds
        points = []
        for number in range(1, rounds + 1):
            if number % every and number != rounds:
                continue
            values = self.metrics(number)
            points.append(
                Point(
                    round=number,
                    metric_mean=mean(values),
                    metric_worst=least(values),
                    attacker_weight_mean=self.weight(0, number - every + 1, number),
                )
            )
        return tuple(points)

    def weight(self, which: int, first: int, last: int) -> float | None:
        """The mean over these rounds of what honest nodes granted: 0 attackers, 1 honest ones."""
        rounds = [self._weights.get(number, ([], [])) for number in range(first, last + 1)]
        found = [fmean(one[which]) for one in rounds if one[which]]
        return fmean(found) if found else None

    def local(self) -> Values:
        """The metric of the honest nodes had they learned alone."""
        return alone(self._setting, self._honest, self._scores, "cpu")

    def pooled(self) -> float | None:
        """The mean metric of one model on all honest rows."""
        found = pooled(self._setting, self._scores, "cpu")
        return found if math.isfinite(found) else None

    def _model(self, node: int, number: int) -> Tensor | None:
        """(p); None where the ledger names a model that its home has no more."""
        name, layout = name_of(node), self._setting.network.layout
        for own in range(self._timetable.own_until(node, number), 0, -1):
            digest = self._stories[name].model_after(own)
            if digest is None:
                continue
            blobs = BlobStore(Home(self._homes[name]).blobs)
            try:
                return layout.row(pack.load(blobs.path(bytes.fromhex(digest))))
            except KonsilError:
                return None
        return self._setting.base


def weights(
    judgements: Iterable[Judgement], honest: Mask, number_of: Callable[[int, int], int]
) -> dict[int, tuple[list[float], list[float]]]:
    """What honest nodes granted in each round of the scenario: to attackers, to honest nodes.

    `number_of` tells the scenario's round of a node's own round.
    """
    places = {name_of(node): node for node in range(len(honest))}
    found: dict[int, tuple[list[float], list[float]]] = {}
    for one in judgements:
        observer, peer = places[one.observer], places[one.peer]
        if honest[observer] and one.granted is not None:
            number = number_of(observer, one.round)
            found.setdefault(number, ([], []))[int(honest[peer])].append(one.granted)
    return found


def mean(values: Values) -> float | None:
    """The mean of what is there."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def least(values: Values) -> float | None:
    """The least of what is there."""
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else None
