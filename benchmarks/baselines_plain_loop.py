"""The workload with one module a node and a plain loop over them."""

from __future__ import annotations

import sys
import time

from benchmarks.baselines import ready, tell
from konsil.simulations.sim.bench import loop
from konsil.simulations.sim.bench.workload import accuracy


def main(rounds: int) -> None:
    """Run all rounds and tell."""
    setting = ready(rounds)
    begun = time.process_time()
    models = loop.run(setting)
    spent = time.process_time() - begun
    tell(accuracy(setting, models), setting.nodes * rounds, spent)


if __name__ == "__main__":
    main(int(sys.argv[1]))
