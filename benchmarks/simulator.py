"""The simulator: against the ceiling of its mathematics, at scale, and against other ways.

The first part is `konsil sim bench` in a process of its own. At scale, each population runs in a
process of its own too, rule mean, 22 rows a node drawn with replacement; rates count training
and mixing, as a run's own `node_rounds_per_cpu_s` does. The last part is `baselines`. A quick run,
whose memory nobody reads, starts fewer processes, each of which would load torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

from benchmarks import baselines
from benchmarks.measure import Row, at_least, at_most

SCALES = ((100, 200), (1_000, 100), (10_000, 20))
QUICK_SCALES = ((100, 4), (400, 2))
ROWS = 22
ROUNDS, QUICK_ROUNDS = 50, 2

Told = dict[str, float]


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the simulator's benchmarks; `quick` is for trying them out."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    return [
        *_bench(rounds, turns=1 if quick else 15),
        *(_scale(QUICK_SCALES, _scale_alone) if quick else _scale(SCALES, _scale_in_process)),
        *baselines.run(rounds, apart={"processes"} if quick else set(baselines.DRIVERS)),
    ]


def _bench(rounds: int, *, turns: int) -> list[Row]:
    told = _told("bench", str(rounds), str(turns))
    unit = "node-rounds/CPU s"
    apart = 100 * abs(told["accuracy"] - told["accuracy_loop"])
    rows = [
        Row(name=f"64 nodes, {name}", value=told[name], unit=unit)
        for name in ("ceiling", "mean", "evidence")
    ]
    return [
        *rows,
        at_least("64 nodes, evidence, signed and logged", [told["ledgered"]], 1000, unit),
        Row(name="64 nodes, the same, homes on disk", value=told["written"], unit=unit),
        at_least("64 nodes, mean / ceiling", [told["ratio_mean"]], 0.5),
        at_least("64 nodes, evidence / ceiling", [told["ratio_evidence"]], 0.1),
        at_most("64 nodes, peak memory", [told["peak_rss_mb"]], 500, "MiB"),
        Row(name="64 nodes, accuracy", value=told["accuracy"]),
        at_most("64 nodes, accuracy apart from the plain loop", [apart], 0.5, "points"),
    ]


def _scale(scales: tuple[tuple[int, int], ...], one: Callable[[int, int], Told]) -> list[Row]:
    found = {nodes: one(nodes, rounds) for nodes, rounds in scales}
    least, most = min(found), max(found)
    cost = found[least]["node_rounds_per_cpu_s"] / found[most]["node_rounds_per_cpu_s"]
    rows = []
    for nodes, told in found.items():
        title = f"{nodes} nodes × {told['rounds']:g} rounds"
        rate = told["node_rounds_per_cpu_s"]
        rows += [
            Row(name=f"{title}, rate", value=rate, unit="node-rounds/CPU s"),
            Row(name=f"{title}, whole run", value=told["wall_s"], unit="s"),
            Row(name=f"{title}, of it evaluation", value=told["eval_s"], unit="s"),
            at_most(f"{title}, peak memory", [told["peak_rss_mb"]], 4096, "MiB"),
        ]
    return [*rows, at_most(f"cost of a node-round, {most} / {least} nodes", [cost], 2)]


def _scale_in_process(nodes: int, rounds: int) -> Told:
    return _told("scale", str(nodes), str(rounds))


def _told(*words: str) -> Told:
    """What this module, run as a process with these words, prints."""
    command = [sys.executable, "-m", "benchmarks.simulator", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: Told = json.loads(done.stdout)
    return found


def _scale_alone(nodes: int, rounds: int) -> Told:
    from pathlib import Path

    from konsil.simulations.sim.bench.workload import scenario
    from konsil.simulations.sim.engine import simulate
    from konsil.simulations.sim.result import as_json

    found: Told = dict(as_json(simulate(scenario("mean", rounds, nodes=nodes, rows=ROWS), Path())))
    return found


def _bench_alone(rounds: int, turns: int) -> Told:
    from konsil.simulations.sim.bench.ledgered import ledgered_rate
    from konsil.simulations.sim.bench.measuring import measure

    return {**measure(rounds, turns=turns), "written": ledgered_rate(min(rounds, 10), written=True)}


if __name__ == "__main__":
    alone = {"bench": _bench_alone, "scale": _scale_alone}[sys.argv[1]]
    print(json.dumps(alone(int(sys.argv[2]), int(sys.argv[3]))))
