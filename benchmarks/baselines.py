"""Other ways to run the simulator's common workload, each in a process of its own.

Written by us from the published algorithms: what differs is where a node lives and how models
travel, not the mathematics. All train with the daemon's own loop on the same rows and batches and
mix the closed neighbourhood's mean, so all reach the same accuracy. Seconds of the processor are
those of all rounds, of child processes too; memory is the highest sum of the proportional set
sizes (PSS) of the whole tree, which counts shared pages once.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from benchmarks.measure import MIB, Row, children
from konsil.simulations.sim.bench.workload import workload

if TYPE_CHECKING:
    from collections.abc import Collection

    from konsil.simulations.sim.setting import Setting

SAMPLE_S = 0.2
DRIVERS = {
    "simulator": "one process, all models in one tensor",
    "plain loop": "one module a node, one after the other",
    "gossip": "one object a node, messages are copies of modules",
    "processes": "one process a node, models travel over TCP",
}


class Told(msgspec.Struct, frozen=True):
    """What a driver prints."""

    accuracy: float
    node_rounds: int
    cpu_s: float


def run(rounds: int, *, apart: Collection[str] = tuple(DRIVERS)) -> list[Row]:
    """Three rows of each driver; of those that run in this process, not `apart`, memory is 0."""
    rows = []
    for name in DRIVERS:
        module = f"benchmarks.baselines_{name.replace(' ', '_')}"
        answer, most = (_apart if name in apart else _here)(module, rounds)
        told = msgspec.convert(json.loads(answer), Told)
        rate = told.node_rounds / told.cpu_s
        rows += [
            Row(name=f"{name}, rate", value=rate, unit="node-rounds/CPU s"),
            Row(name=f"{name}, accuracy", value=told.accuracy),
            Row(name=f"{name}, peak memory", value=most / MIB, unit="MiB"),
        ]
    return rows


def _here(module: str, rounds: int) -> tuple[str, int]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        importlib.import_module(module).main(rounds)
    return out.getvalue(), 0


def _apart(module: str, rounds: int) -> tuple[str, int]:
    """What a driver prints, and the most bytes that its processes held."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(rounds)], stdout=subprocess.PIPE, text=True
    )
    most, answer = 0, ""
    while True:
        try:
            answer, _ = process.communicate(timeout=SAMPLE_S)
            break
        except subprocess.TimeoutExpired:
            most = max(most, _tree(process.pid))
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    return answer, most


def tell(accuracy: float, node_rounds: int, cpu_s: float) -> None:
    """What a driver says at its end."""
    print(json.dumps({"accuracy": accuracy, "node_rounds": node_rounds, "cpu_s": cpu_s}))


def ready(rounds: int) -> Setting:
    """The workload, in one thread."""
    torch.set_num_threads(1)
    return workload("mean", rounds)


def _tree(pid: int) -> int:
    """PSS of a process and of all its descendants, in bytes; of those that just ended, nothing."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        below = children(pid)
    except OSError:
        return 0
    own = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return 1024 * own + sum(map(_tree, below))
