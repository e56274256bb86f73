"""A pull between two processes, against plain trio TLS 1.3 and plain trio TCP.

The pull is the daemon's own code on both ends: libp2p, artifact stream, signature, proof of
publication, chunks verified and spooled to disk. The plain stacks send the same file and only
count what arrives. Stacks take turns, and each figure is a ratio within its turn. Overhead is
what both ends wrote to their sockets, encryption and keeping alive included, beyond the payload.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.homes import make_homes, write_payload
from benchmarks.measure import MIB, Row, at_least, at_most, median, ratios

BIG, TURNS = 100_000_000, 5
SIZES = (10_000, 990_000, 1_000_000, 10_000_000)
STACKS = ("konsil", "tls", "tcp")
LONGEST_S = 300

Figures = dict[str, float]


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the wire benchmarks; `quick` is for trying them out."""
    big, sizes = (2_000_000, ()) if quick else (BIG, SIZES)
    found: dict[str, list[Figures]] = {stack: [] for stack in STACKS}
    for _ in range(1 if quick else TURNS):
        for stack, turns in found.items():
            turns.append(transfer(stack, big))
    rows = _speed(found, big)
    rows += [_overhead(transfer("konsil", size), size) for size in sizes]
    return [*rows, _overhead(found["konsil"][0], big)]


def transfer(stack: str, size: int) -> Figures:
    """What both ends of one transfer measured; `pull_` and `serve_` say which end."""
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        folder = Path(name)
        payload = folder / "payload"
        write_payload(payload, size)
        if stack == "konsil":
            server, client = make_homes(folder, options={}, training={})
            begin = [sys.executable, "-m", "benchmarks.konsil_end"]
            return _pair(
                [*begin, "serve", str(server), str(payload)], [*begin, "pull", str(client)]
            )
        begin = [sys.executable, "-m", "benchmarks.raw_end", stack]
        return _pair([*begin, "serve", str(payload), name], [*begin, "pull", name])


def _pair(serve: list[str], pull: list[str]) -> Figures:
    """Start a server, hand its offer to a puller, and collect the figures of both."""
    with subprocess.Popen(
        serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            offer = server.stdout.readline().strip()
            pulled = subprocess.run(
                [*pull, offer], capture_output=True, text=True, check=False, timeout=LONGEST_S
            )
            told, _ = server.communicate("\n", timeout=LONGEST_S)
        finally:
            server.kill()
    if pulled.returncode or not told:
        raise RuntimeError(f"{' '.join(pull[:4])}: {pulled.stderr[-2000:]}")
    figures: Figures = {"size": json.loads(offer)["size"]}
    for side, text in (("pull", pulled.stdout), ("serve", told)):
        figures |= {f"{side}_{name}": value for name, value in json.loads(text).items()}
    return figures


def _speed(found: dict[str, list[Figures]], size: int) -> list[Row]:
    title = f"pull {size / 1e6:g} MB"
    rate = {
        stack: [one["size"] / 1e6 / one["pull_seconds"] for one in turns]
        for stack, turns in found.items()
    }
    ours = found["konsil"]
    grown = [max(one["pull_grown"], one["serve_grown"]) / MIB for one in ours]
    return [
        *(median(f"{title}, {stack}", rate[stack], "MB/s") for stack in STACKS),
        at_least(f"{title}, konsil / trio TLS", ratios(rate["konsil"], rate["tls"]), 0.25),
        median(f"{title}, konsil / trio TCP", ratios(rate["konsil"], rate["tcp"])),
        median(f"{title}, puller's processor time", [one["pull_cpu"] for one in ours], "s"),
        median(f"{title}, server's processor time", [one["serve_cpu"] for one in ours], "s"),
        median(
            f"{title}, and checked and synced to disk",
            [one["size"] / 1e6 / one["pull_stored"] for one in ours],
            "MB/s",
        ),
        at_most(f"{title}, memory above idle", grown, 40.0, "MiB"),
    ]


def _overhead(figures: Figures, size: int) -> Row:
    spent = figures["pull_crossed"] - figures["size"]
    if size >= 1_000_000:
        title = f"wire overhead, {size / 1e6:g} MB"
        return at_most(title, [100 * spent / figures["size"]], 2.0, "%")
    return at_most(f"wire overhead, {size / 1e3:g} kB", [spent], 4096, "bytes")
