"""Mixing 8 models of 25 M parameters with the replayable kernel, against copying the same eight.

Copying takes every memory-mapped input, one after the other, into one array that was touched
before: it reads what a mix reads, and computes, hashes and writes nothing. Both take turns in
one process that does nothing else; all files are in the page cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.homes import write_payload
from benchmarks.measure import Row, at_least, at_most, median, peak, ratios, reset_peak, resident
from konsil.knowledge import mixing

MODELS, PARAMETERS, TURNS = 8, 25_000_000, 7
SHARES = (0.3, *[0.1] * (MODELS - 1))


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the mixing benchmark; `quick` is for trying it out."""
    count = PARAMETERS // 100 if quick else PARAMETERS
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        for number in range(MODELS):
            write_payload(Path(name) / f"model-{number}", 4 * count, seed=number)
        os.sync()
        model = (Path(name) / "model-0").stat().st_size
        command = [sys.executable, "-m", "benchmarks.blend", name, str(2 if quick else TURNS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    rate = {what: [MODELS * model / 1e9 / one for one in found[what]] for what in ("copy", "mix")}
    title = f"mix {MODELS} × {count / 1e6:g} M"
    return [
        median(f"{title}, kernel", rate["mix"], "GB/s"),
        median(f"{title}, copying", rate["copy"], "GB/s"),
        at_least(f"{title}, kernel / copying", ratios(rate["mix"], rate["copy"]), 0.35),
        median(f"{title}, processor time", found["mix_cpu"], "s"),
        median(f"{title}, processor time of copying", found["copy_cpu"], "s"),
        at_most(f"{title}, peak memory", [one / model for one in found["grown"]], 3.0, "models"),
    ]


def copy(sources: list[Path], into: np.ndarray) -> None:
    """Copy every source out of its memory map into one array."""
    for source in sources:
        np.copyto(into, np.memmap(source, dtype=np.uint8, mode="r"))


def mix(sources: list[Path], out: Path) -> None:
    """Mix the sources with uneven weights into a new file."""
    weights = mixing.quantise(SHARES)
    parts = [mixing.Part(path, w) for path, w in zip(sources, weights, strict=True)]
    mixing.mix(parts, out)


def main() -> None:
    """Take turns, and print seconds, seconds of the processor and bytes above idle."""
    folder, turns = Path(sys.argv[1]), int(sys.argv[2])
    sources = [folder / f"model-{number}" for number in range(MODELS)]
    into, out = np.zeros(sources[0].stat().st_size, dtype=np.uint8), folder / "mixed"
    found: dict[str, list[float]] = {
        key: [] for key in ("copy", "copy_cpu", "mix", "mix_cpu", "grown")
    }
    copy(sources, into)
    for _ in range(turns):
        began, used = time.perf_counter(), time.process_time()
        copy(sources, into)
        found["copy"].append(time.perf_counter() - began)
        found["copy_cpu"].append(time.process_time() - used)
        reset_peak()
        idle, began, used = resident(), time.perf_counter(), time.process_time()
        mix(sources, out)
        found["mix"].append(time.perf_counter() - began)
        found["mix_cpu"].append(time.process_time() - used)
        found["grown"].append(peak() - idle)
        out.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
