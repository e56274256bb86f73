"""Measuring: the ceiling and the simulator in turns in one process, and what they reach.

Rates are node-rounds per second of the processor; whole rounds count, with faults, messages and
records, but without evaluation. A ratio is taken turn by turn and its median counts, because
whatever slows the machine for a while slows both. Torch has one thread.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from konsil.simulations.sim.bench import loop
from konsil.simulations.sim.bench.ceiling import Ceiling
from konsil.simulations.sim.bench.ledgered import ledgered_rate
from konsil.simulations.sim.bench.workload import NODES, ROUNDS, accuracy, workload
from konsil.simulations.sim.engine import Run, threads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from konsil.simulations.sim.setting import Setting

TURNS = 9
LEDGERED_ROUNDS = 50
"""Rounds of the run with ledgers, which is alone and needs no turns."""
RULES = ("mean", "evidence")
CEILING = "ceiling"

Data: TypeAlias = "dict[str, float]"


@dataclass
class Turns:
    """Rates of each implementation, turn by turn, and the models it ended with."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    models: dict[str, Tensor] = field(default_factory=dict)

    def take(self, name: str, node_rounds: int, run: Callable[[], Tensor]) -> None:
        """One turn of an implementation."""
        clock = time.process_time()
        models = run()
        spent = time.process_time() - clock
        self.rates.setdefault(name, []).append(node_rounds / spent)
        self.models[name] = models

    def rate(self, name: str) -> float:
        """The median of an implementation."""
        return statistics.median(self.rates[name])

    def ratio(self, name: str, other: str) -> float:
        """The median of one's rate over another's, turn by turn."""
        pairs = zip(self.rates[name], self.rates[other], strict=True)
        return statistics.median(one / two for one, two in pairs)


def measure(rounds: int = ROUNDS, *, turns: int = TURNS, nodes: int = NODES) -> Data:
    """The `data` of ``konsil sim bench``."""
    settings = {rule: workload(rule, rounds, nodes=nodes) for rule in RULES}
    mean = settings["mean"]
    with threads(mean.network.layout.elements):
        taken = in_turns(settings, turns)
        reached = {name: accuracy(mean, models) for name, models in taken.models.items()}
        by_loop = accuracy(mean, loop.run(mean))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "nodes": nodes,
        "rounds": rounds,
        "turns": turns,
        CEILING: taken.rate(CEILING),
        "mean": taken.rate("mean"),
        "evidence": taken.rate("evidence"),
        "ledgered": ledgered_rate(min(rounds, LEDGERED_ROUNDS), nodes=nodes),
        "ratio_mean": taken.ratio("mean", CEILING),
        "ratio_evidence": taken.ratio("evidence", CEILING),
        "peak_rss_mb": peak_mb,
        "accuracy": reached["mean"],
        "accuracy_evidence": reached["evidence"],
        "accuracy_ceiling": reached[CEILING],
        "accuracy_loop": by_loop,
    }


def in_turns(settings: dict[str, Setting], turns: int) -> Turns:
    """The ceiling, then each rule, over and over; a first turn of all only warms them up."""
    found = Turns()
    first = next(iter(settings.values()))
    ceiling = Ceiling(first)
    count = first.nodes * first.scenario.training.rounds
    for turn in range(turns + 1):
        if turn == 1:
            found = Turns()
        gc.collect()
        found.take(CEILING, count, ceiling.run)
        for rule, setting in settings.items():
            found.take(rule, count, partial(simulated, Run(setting, "cpu")))
    return found


def simulated(run: Run) -> Tensor:
    """(n, p): the models after all rounds of the simulator's own engine."""
    for number in range(1, run.setting.scenario.training.rounds + 1):
        run.round(number)
    return run.models


def print_bench(data: Mapping[str, float]) -> None:
    """The figures for people, on stdout."""
    print(f"{data['nodes']:.0f} nodes, turns of {data['rounds']:.0f} rounds")
    print(f"{'':<12}{'node-rounds/CPU s':>18}{'of the ceiling':>16}{'accuracy':>10}")
    for name in (CEILING, "mean", "evidence", "ledgered", "loop"):
        rate = f"{data[name]:,.0f}" if name in data else ""
        ratio = f"{data[f'ratio_{name}']:.2f}" if f"ratio_{name}" in data else ""
        key = "accuracy" if name == "mean" else f"accuracy_{name}"
        reached = f"{data[key]:.3f}" if key in data else ""
        print(f"{name:<12}{rate:>18}{ratio:>16}{reached:>10}")
    print(f"peak memory {data['peak_rss_mb']:.0f} MB")
