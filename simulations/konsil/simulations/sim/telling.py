"""Telling: what is measured on the way, and the result at the end.

Byzantine nodes are left out of every metric. Weights are w / W over links to honest nodes, by
whether the sender is Byzantine, over the last three quarters of all rounds.
"""

from __future__ import annotations

import math
import time
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.simulations.sim.attacks import backdoor
from konsil.simulations.sim.live import Progress
from konsil.simulations.sim.portrait import Grants, Portrait
from konsil.simulations.sim.references import alone, pooled
from konsil.simulations.sim.result import Point, Result
from konsil.simulations.sim.scores import Scores
from konsil.simulations.sim.spectrum import gap_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.sim.engine import Run
    from konsil.simulations.sim.lessons.run import LessonRun
    from konsil.simulations.sim.networks import Network
    from konsil.simulations.sim.setting import Setting

    Values = npt.NDArray[np.float64]


class Telling:
    """Watches a run; what it measures costs none of the run's processor time."""

    def __init__(
        self,
        setting: Setting,
        run: Run | LessonRun,
        begun: float,
        tell: Callable[[Progress], None],
    ) -> None:
        self._setting, self._run, self._tell = setting, run, tell
        self._begun = begun
        self._setup_s = time.perf_counter() - begun
        self._eval_s = 0.0
        self._history: list[Point] = []
        self._weights: list[tuple[float, float]] = []
        """Mean weight of hostile and of honest senders in each round; NaN of nobody."""
        self._grants = Grants(run.shard, setting.scenario.training.rounds)
        self._latest = np.full(int(setting.honest.sum()), math.nan)
        """The metric of every honest node, as last evaluated."""

    def after(self, number: int) -> None:
        """A round is over: count its weights, and evaluate where the scenario says so."""
        scenario = self._setting.scenario
        self._weights.append(self._round_weights())
        if self._run.heard is not None and self._run.granted is not None:
            self._grants.add(number, self._run.heard, self._run.granted)
        last = number == scenario.training.rounds
        if number % scenario.eval_every == 0 or last:
            clock = time.perf_counter()
            values = self._latest = self._metrics(number)
            since = number - (self._history[-1].round if self._history else 0)
            self._history.append(
                Point(
                    round=number,
                    metric_mean=_mean(values),
                    metric_worst=_least(values),
                    attacker_weight_mean=_mean_of(self._weights, 0, since),
                )
            )
            self._eval_s += time.perf_counter() - clock
        self._tell(self._progress(number))

    def _progress(self, number: int) -> Progress:
        nothing = Point(round=0, metric_mean=None, metric_worst=None, attacker_weight_mean=None)
        point = self._history[-1] if self._history else nothing
        done = number * self._setting.nodes
        return Progress(
            round=number,
            rounds=self._setting.scenario.training.rounds,
            metric_mean=point.metric_mean,
            metric_worst=point.metric_worst,
            attacker_weight_mean=point.attacker_weight_mean,
            node_rounds_per_cpu_s=done / self._run.cpu_s if self._run.cpu_s else None,
            faults=self._run.counts,
        )

    def result(self, peak_mb: float) -> Result:
        """Everything, with the references that are trained now."""
        setting, run = self._setting, self._run
        scenario, clock = setting.scenario, time.perf_counter()
        nodes = np.flatnonzero(setting.honest)
        mine = nodes[(nodes >= run.shard.begin) & (nodes < run.shard.end)]
        scores = self._scores(scenario.training.rounds)
        local = self._gathered(mine, alone(setting, mine, scores, run.device))
        together = pooled(setting, scores, run.device)
        obeyed = self._obeyed(mine)
        rounds = scenario.training.rounds
        kept = math.ceil(3 * rounds / 4)
        cpu_s, peak_mb = run.shard.total([run.cpu_s, peak_mb], run.device)
        self._eval_s += time.perf_counter() - clock
        return Result(
            nodes=setting.nodes,
            rounds=rounds,
            topology=scenario.topology.kind,
            dataset=scenario.population.dataset,
            rule=scenario.trust.rule,
            metric=scenario.population.metric,
            metric_mean=self._history[-1].metric_mean,
            metric_worst=self._history[-1].metric_worst,
            metric_local_mean=_mean(local),
            metric_local_worst=_least(local),
            metric_pooled=together if math.isfinite(together) else None,
            attacker_weight_mean=_mean_of(self._weights, 0, kept),
            honest_weight_mean=_mean_of(self._weights, 1, kept),
            backdoor_success=obeyed,
            bytes_per_node_round=run.sent_bytes / (setting.nodes * rounds),
            faults=run.counts,
            spectral_gap=gap_of(setting.graphs),
            wall_s=time.perf_counter() - self._begun,
            setup_s=self._setup_s,
            eval_s=self._eval_s,
            cpu_s=cpu_s,
            node_rounds_per_cpu_s=setting.nodes * rounds / cpu_s if cpu_s else None,
            peak_rss_mb=peak_mb,
            history=tuple(self._history),
            seed=scenario.seed,
        )

    def portrait(self) -> Portrait:
        """Single nodes and links at the end."""
        setting = self._setting
        links = setting.graphs.at(setting.scenario.training.rounds)
        metric = np.full(setting.nodes, math.nan)
        metric[setting.honest] = self._latest
        granted = self._grants.of(links, self._run.device)
        return Portrait(links, metric, ~setting.honest, granted)

    def _metrics(self, number: int) -> Values:
        """The metric of every honest node's model."""
        mine = self._run.own[self._setting.honest[self._run.own]]
        scores, values = self._scores(number), np.full(len(mine), math.nan)
        for network, nodes, models in self._honest():
            values[np.isin(mine, nodes)] = scores.under(network).of(models, nodes)
        return self._gathered(mine, values)

    def _honest(self) -> Iterator[tuple[Network, npt.NDArray[np.int64], Tensor]]:
        """For each architecture, the honest ones among the own nodes, and their models."""
        run, honest = self._run, self._setting.honest
        for kind, models in zip(self._setting.architectures, run.stacked, strict=True):
            own = np.intersect1d(kind.nodes, run.own)
            places = torch.from_numpy(np.flatnonzero(honest[own])).to(models.device)
            yield kind.network, own[honest[own]], models[places]

    def _scores(self, number: int) -> Scores:
        """The test rows, as they are in this round."""
        cohorts = self._setting.cohorts_at(number)
        return Scores(
            self._setting.network,
            cohorts.test_inputs,
            cohorts.test_targets,
            classes=cohorts.classes,
            metric=cohorts.metric,
            device=self._run.device,
        )

    def _obeyed(self, mine: npt.NDArray[np.int64]) -> float | None:
        """How often honest models obey the backdoor's pattern; None where nobody teaches one.

        `mine` are the honest ones among the own nodes.
        """
        setting, run = self._setting, self._run
        if "backdoor" not in setting.scenario.adversary.attacks:
            return None
        cohorts = setting.cohorts_at(setting.scenario.training.rounds)
        found: dict[int, float] = {}
        for network, nodes, models in self._honest():
            for node, model in zip(nodes.tolist(), models, strict=True):
                place = node if len(cohorts.test_inputs) > 1 else 0
                share = backdoor.success(
                    partial(_classes, network, model[None]),
                    cohorts.test_inputs[place].to(run.device),
                    cohorts.test_targets[place].to(run.device),
                )
                found[node] = math.nan if share is None else share
        values = np.array([found[node] for node in mine.tolist()], dtype=np.float64)
        return _mean(self._gathered(mine, values))

    def _gathered(self, nodes: npt.NDArray[np.int64], values: Values) -> Values:
        """The values of all processes' honest nodes."""
        shard = self._run.shard
        if shard.processes == 1:
            return values
        column = torch.full((shard.end - shard.begin,), torch.nan, dtype=torch.float64)
        column[torch.from_numpy(nodes - shard.begin)] = torch.from_numpy(values)
        everybody = np.asarray(shard.gather(column.to(self._run.device)).cpu())
        return everybody[self._setting.honest]

    def _round_weights(self) -> tuple[float, float]:
        run, setting = self._run, self._setting
        links, granted = run.heard, run.granted
        if links is None or granted is None:
            return math.nan, math.nan
        honest = setting.honest
        to_honest = honest[links.receiver + run.shard.begin]
        from_honest = honest[links.sender]
        values = np.asarray(granted.double().cpu())
        bad, good = to_honest & ~from_honest, to_honest & from_honest
        figures = [values[bad].sum(), bad.sum(), values[good].sum(), good.sum()]
        of_bad, bads, of_good, goods = run.shard.total(figures, run.device)
        return of_bad / bads if bads else math.nan, of_good / goods if goods else math.nan


def _classes(network: Network, model: Tensor, rows: Tensor) -> Tensor:
    """(1, m): the class that one model (1, p) sees in each row."""
    return network.outputs(model, rows[None]).argmax(-1)


def _mean(values: Values) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _least(values: Values) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.min()) if len(known) else None


def _mean_of(weights: Sequence[tuple[float, float]], which: int, last: int) -> float | None:
    known = [pair[which] for pair in weights[-last:] if math.isfinite(pair[which])]
    return fmean(known) if known else None
