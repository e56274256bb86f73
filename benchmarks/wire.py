"""Bulk pull between two processes, against raw trio TLS and raw trio TCP.

The pull is the daemon's own code on both ends: libp2p transport, artifact stream, chunks
verified and spooled to disk. The raw stacks send the same file and only count what arrives,
so the comparison leaves konsil nothing for free.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.artifact import write_payload
from benchmarks.measure import MIB, Row, at_least, at_most

STACKS = ("konsil", "tls", "tcp")
KIB_4 = 4096


class Pair:
    """A server and a client process of one stack; `figures` is what they measured."""

    def __init__(self, stack: str, payload: Path, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.wire_end", stack]
        files = [str(payload), str(folder)]
        self.figures: dict[str, float] = {}
        with subprocess.Popen(
            [*command, "serve", *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as server:
            assert server.stdout is not None
            where = server.stdout.readline().strip()
            pulled = subprocess.run(
                [*command, "pull", *files, where], capture_output=True, text=True, check=False
            )
            told, _ = server.communicate("\n")
        if pulled.returncode:
            raise RuntimeError(f"{stack}: {pulled.stderr[-2000:]}")
        for side, text in (("client", pulled.stdout), ("server", told)):
            found = json.loads(text.strip().splitlines()[-1])
            self.figures |= {f"{side}_{name}": value for name, value in found.items()}


def run(*, quick: bool = False) -> list[Row]:
    """The rows of all wire benchmarks; `quick` is for trying them out."""
    big = 10_000_000 if quick else 100_000_000
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        folder = Path(name)
        payload = folder / "payload"
        write_payload(payload, big)
        pairs = {stack: [] for stack in STACKS}
        for _ in range(rounds):
            for stack in STACKS:
                pairs[stack].append(Pair(stack, payload, folder).figures)
        rows = _speed(pairs, payload.stat().st_size)
        for size in (10_000, 1_000_000, big):
            write_payload(payload, size)
            rows.append(_overhead(Pair("konsil", payload, folder).figures, payload.stat().st_size))
    return rows


def _speed(pairs: dict[str, list[dict[str, float]]], size: int) -> list[Row]:
    rate = {
        stack: size / 1e6 / statistics.median(one["client_seconds"] for one in found)
        for stack, found in pairs.items()
    }
    grown = [one[f"{side}_grown"] / MIB for one in pairs["konsil"] for side in ("client", "server")]
    title = f"pull {size / 1e6:.0f} MB"
    return [
        *(Row(name=f"{title}, {stack}", value=rate[stack], unit="MB/s") for stack in STACKS),
        at_least(f"{title}, konsil / trio TLS", rate["konsil"] / rate["tls"], "", 0.25),
        Row(name=f"{title}, konsil / trio TCP", value=rate["konsil"] / rate["tcp"], unit=""),
        at_most(f"{title}, memory above idle", max(grown), "MiB", 40.0),
    ]


def _overhead(figures: dict[str, float], size: int) -> Row:
    written = figures["client_written"] + figures["client_received"] - size
    if size >= 1_000_000:
        return at_most(f"wire overhead, {size / 1e6:.0f} MB", 100 * written / size, "%", 2.0)
    return at_most(f"wire overhead, {size / 1e3:.0f} kB", written, "bytes", KIB_4)
