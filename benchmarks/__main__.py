"""Run the benchmarks: a table, and JSON in a file; exit 1 when a goal is missed.

    make bench                               everything, about seven minutes on two free cores
    make bench ARGS="--only wire"            one set: wire, mixing, ledger, daemons, simulator
    make bench ARGS="--quick"                small sizes, to see that all of it runs
    make bench ARGS="--json"                 the JSON on stdout instead of the table

Goals are ratios within one run, or costs of one process; docs/benchmarks.md explains them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.measure import Row

SETS = {
    "wire": "benchmarks.wire",
    "mixing": "benchmarks.blend",
    "ledger": "benchmarks.ledger",
    "daemons": "benchmarks.daemons",
    "simulator": "benchmarks.simulator",
}
"""The module of each set. It is imported when its turn comes: one of them needs torch."""


def table(rows: list[Row]) -> str:
    """The rows for people."""
    verdicts = {True: "met", False: "NOT MET", None: ""}
    cells = [("benchmark", "value", "unit", "goal", "")]
    for row in rows:
        value = f"{row.value:.3g}" if row.value < 1000 else f"{row.value:.0f}"
        cells.append((row.name, value, row.unit, row.goal, verdicts[row.met]))
    widths = [max(len(line[place]) for line in cells) for place in range(5)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place == 1 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def main() -> int:
    """Run what the command line asks for and report; the exit code."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=SETS, help="one set of benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes; goals mean nothing")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"), help="the JSON file")
    asked = parser.parse_args()
    rows: list[Row] = []
    for name, module in SETS.items():
        if asked.only in (None, name):
            print(f"bench: {name} …", file=sys.stderr, flush=True)
            rows += importlib.import_module(module).run(quick=asked.quick)
    told = report(rows, quick=asked.quick)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_bytes(told)
    print(told.decode() if asked.json else table(rows))
    return int(not asked.quick and any(row.met is False for row in rows))


def report(rows: list[Row], *, quick: bool) -> bytes:
    """The rows for machines, with the circumstances."""
    facts = {
        "schema": "konsil.bench/1",
        "quick": quick,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.python_version()}",
        "load": os.getloadavg()[0],
        "rows": rows,
    }
    return msgspec.json.format(msgspec.json.encode(facts), indent=1) + b"\n"


if __name__ == "__main__":
    sys.exit(main())
