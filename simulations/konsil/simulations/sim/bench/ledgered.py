"""Ledgered: the rate of the simulator when every round is signed and logged.

The workload under rule evidence with ``[ledger] enabled = true``. As in `konsil sim run`, homes are
written only where somebody wants them; everything in them is made and signed all the same. All
time of the processor in rounds counts, with keys at hand and until the logs are closed; that of
other threads too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import time
from pathlib import Path

import msgspec

from konsil.simulations.sim.bench.workload import NODES, workload
from konsil.simulations.sim.engine import Run, threads
from konsil.simulations.sim.ledgered import opened_books


def ledgered_rate(rounds: int, *, nodes: int = NODES, written: bool = False) -> float:
    """Node-rounds per CPU second; with homes `written` to a temporary folder or nowhere."""
    setting = workload("evidence", rounds, nodes=nodes)
    enabled = msgspec.structs.replace(setting.scenario.ledger, enabled=True)
    scenario = msgspec.structs.replace(setting.scenario, ledger=enabled)
    setting = dataclasses.replace(setting, scenario=scenario)
    with contextlib.ExitStack() as stack:
        homes = None
        if written:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="konsil-bench-"))
            homes = Path(place) / "homes"
        stack.enter_context(threads(setting.network.layout.elements))
        books = stack.enter_context(opened_books(setting, homes))
        run = Run(setting, "cpu", books)
        clock = time.process_time()
        for number in range(1, rounds + 1):
            run.round(number)
        run.close()
        return nodes * rounds / (time.process_time() - clock)
