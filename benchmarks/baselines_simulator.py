"""The workload in the simulator itself, under rule mean."""

from __future__ import annotations

import sys
import time

from benchmarks.baselines import ready, tell
from konsil.simulations.sim.bench.measuring import simulated
from konsil.simulations.sim.bench.workload import accuracy
from konsil.simulations.sim.engine import Run, threads


def main(rounds: int) -> None:
    """Run all rounds and tell."""
    setting = ready(rounds)
    with threads(setting.network.layout.elements):
        run = Run(setting, "cpu")
        begun = time.process_time()
        models = simulated(run)
        spent = time.process_time() - begun
    tell(accuracy(setting, models), setting.nodes * rounds, spent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
