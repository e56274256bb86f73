"""Two real daemons: what an idle one costs, and how fast a small artifact gets across.

Idle means linked, with all rounds done. Latency is read from the two logs, which share a
clock: from the moment at which an artifact is on the publisher's shelf, its publish entry
durable, to the moment at which the other has every byte (pulled), and to that at which it is
checked by the worker, stored, logged durably and ready to be mixed (received).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.homes import make_homes
from benchmarks.measure import MIB, Row, at_most, children, cpu_seconds, resident
from konsil.node.control import ask
from konsil.protocol.errors import UnreachableError

OPTIONS = {"dataset": "breast_cancer", "model": "mlp:80"}
"""A model of 10 kB."""
TRAINING = {"rounds": 1, "device": "cpu"}
PUBLISHES, IDLE_S, SETTLE_S, LONGEST_S = 40, 30.0, 3.0, 180.0

Line = dict[str, Any]


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the daemon benchmarks; `quick` is for trying them out."""
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        homes = make_homes(Path(name), options=OPTIONS, training=TRAINING)
        with _running(homes) as pids:
            for home in homes:
                _wait_for(home, lambda told: told["phase"] == "idle" and bool(told["neighbours"]))
            rows = _idle(pids, 2.0 if quick else IDLE_S)
            return rows + _latency(homes[0], homes[1], 3 if quick else PUBLISHES)


@contextmanager
def _running(homes: list[Path]) -> Iterator[list[int]]:
    """The daemons of these homes, from their start to their end."""
    daemons = []
    try:
        for home in homes:
            command = [sys.executable, "-m", "konsil.node.cli.app", "node", "run", str(home)]
            with (home / "node.log").open("w") as log:
                daemons.append(subprocess.Popen(command, stderr=log))
        yield [daemon.pid for daemon in daemons]
    finally:
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(timeout=15)


def _wait_for(home: Path, seen: Callable[[Line], bool]) -> None:
    """Ask a node for its status until it shows what is wanted."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        try:
            if seen(ask(home, "status")):
                return
        except UnreachableError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"{home.name} did not get there: {(home / 'node.log').read_text()[-2000:]}")


def _idle(pids: list[int], seconds: float) -> list[Row]:
    """What both daemons cost while nothing happens; the dearer one counts."""
    time.sleep(SETTLE_S)
    before, began = [cpu_seconds(pid) for pid in pids], time.perf_counter()
    time.sleep(seconds)
    passed = time.perf_counter() - began
    used = [
        100 * (cpu_seconds(pid) - spent) / passed for pid, spent in zip(pids, before, strict=True)
    ]
    workers = [sum(resident(child) for child in children(pid)) / MIB for pid in pids]
    return [
        at_most("idle daemon, processor", used, 1.0, "% of a core"),
        at_most("idle daemon, memory", [resident(pid) / MIB for pid in pids], 150.0, "MiB"),
        Row(name="its worker process, memory", value=max(workers), unit="MiB"),
    ]


def _latency(sender: Path, receiver: Path, count: int) -> list[Row]:
    pulled, received, size = [], [], 0
    for _ in range(count):
        told = ask(sender, "publish", timeout_s=60.0)
        size = told["size"]
        arrived = _await_line(receiver, "artifact.received", "sequence", told["sequence"])
        began = _at(_await_line(sender, "artifact.published", "sequence", told["sequence"]))
        pulled.append(1000 * (_at(_await_line(receiver, "pull.end", "env", told["env"])) - began))
        received.append(1000 * (_at(arrived) - began))
    title = f"announced to {{}}, {size / 1000:.1f} kB"
    return [
        row
        for what, found in (("pulled", pulled), ("received", received))
        for row in _percentiles(title.format(what), found)
    ]


def _percentiles(title: str, found: list[float]) -> list[Row]:
    turns = tuple(found)
    ninety_nine = statistics.quantiles(found, n=100, method="inclusive")[98]
    return [
        Row(name=f"{title}, p50", value=statistics.median(found), unit="ms", turns=turns),
        Row(name=f"{title}, p99", value=ninety_nine, unit="ms"),
    ]


def _await_line(home: Path, event: str, key: str, value: object) -> Line:
    """The line of a node's log that tells of this event; it may take a moment to appear."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        for text in (home / "node.log").read_text().splitlines():
            if event in text:
                line: Line = json.loads(text)
                if line["event"] == event and line.get(key) == value:
                    return line
        time.sleep(0.02)
    raise TimeoutError(f"{home.name} never logged {event} of {value}")


def _at(line: Line) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
