"""Mixing 8 models of 25 M parameters with the replayable kernel, against copying the same eight.

Copying takes every memory-mapped input, one after the other, into one array that was touched
before: it reads what a mix reads, and computes, hashes and writes nothing. Both take turns, each
in a process of its own, so that one's memory is not the other's; all files are in the page cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.homes import write_payload
from benchmarks.measure import Row, at_least, at_most, median, peak, ratios, reset_peak, resident
from konsil.knowledge import mixing

MODELS, PARAMETERS, TURNS = 8, 25_000_000, 5
SHARES = (0.3, *[0.1] * (MODELS - 1))

Figures = dict[str, float]
Work = Callable[[], None]


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the mixing benchmark; `quick` is for trying it out."""
    count = PARAMETERS // 100 if quick else PARAMETERS
    found: dict[str, list[Figures]] = {"copy": [], "mix": []}
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        for number in range(MODELS):
            write_payload(Path(name) / f"model-{number}", 4 * count, seed=number)
        model = (Path(name) / "model-0").stat().st_size
        for _ in range(1 if quick else TURNS):
            for what, turns in found.items():
                turns.append(_measured(what, name))
    rate = {
        what: [MODELS * model / 1e9 / one["seconds"] for one in turns]
        for what, turns in found.items()
    }
    title = f"mix {MODELS} × {count / 1e6:g} M"
    grown = [one["grown"] / model for one in found["mix"]]
    return [
        median(f"{title}, kernel", rate["mix"], "GB/s"),
        median(f"{title}, copying", rate["copy"], "GB/s"),
        at_least(f"{title}, kernel / copying", ratios(rate["mix"], rate["copy"]), 0.35),
        at_most(f"{title}, peak memory", grown, 3.0, "models"),
    ]


def _measured(what: str, folder: str) -> Figures:
    command = [sys.executable, "-m", "benchmarks.blend", what, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: Figures = json.loads(done.stdout)
    return figures


def copying(sources: list[Path]) -> Work:
    """Copies every source out of its memory map into one array."""
    into = np.zeros(sources[0].stat().st_size, dtype=np.uint8)

    def work() -> None:
        for source in sources:
            np.copyto(into, np.memmap(source, dtype=np.uint8, mode="r"))

    return work


def blending(sources: list[Path]) -> Work:
    """Mixes the sources with uneven weights into a new file."""
    weights = mixing.quantise(SHARES)
    parts = [mixing.Part(path, w) for path, w in zip(sources, weights, strict=True)]
    out = sources[0].with_name("mixed")

    def work() -> None:
        mixing.mix(parts, out)

    out.unlink(missing_ok=True)
    return work


def main() -> None:
    """Do one of the two and print what was seen."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    sources = [folder / f"model-{number}" for number in range(MODELS)]
    work = {"copy": copying, "mix": blending}[what](sources)
    reset_peak()
    idle, began = resident(), time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "grown": peak() - idle}))


if __name__ == "__main__":
    main()
