"""Mixing 8 models of 25 M parameters with the replayable kernel, against copying the same eight.

Copying takes every memory-mapped input into an array of its own, one after the other: it reads
what a mix reads, computes nothing and writes nothing to a file. Each measurement runs in a
process of its own, so that one's memory is not the other's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.artifact import write_payload
from benchmarks.measure import Row, at_least, at_most, peak, reset_peak, resident

MODELS = 8
PARAMETERS = 25_000_000


def run(*, quick: bool = False) -> list[Row]:
    """The rows of the mixing benchmark; `quick` is for trying it out."""
    count = PARAMETERS // 10 if quick else PARAMETERS
    with tempfile.TemporaryDirectory(prefix="konsil-bench-") as name:
        folder = Path(name)
        for number in range(MODELS):
            write_payload(folder / f"model-{number}", 4 * count)
        found = {"copy": [], "mix": []}
        for _ in range(1 if quick else 3):
            for what, rows in found.items():
                rows.append(_measure(what, folder))
        model = (folder / "model-0").stat().st_size
    gigabytes = MODELS * model / 1e9
    best = {what: min(one["seconds"] for one in rows) for what, rows in found.items()}
    grown = max(one["grown"] for one in found["mix"])
    title = f"mix {MODELS} × {count / 1e6:g} M"
    return [
        Row(name=f"{title}, kernel", value=gigabytes / best["mix"], unit="GB/s"),
        Row(name=f"{title}, copying", value=gigabytes / best["copy"], unit="GB/s"),
        at_least(f"{title}, kernel / copying", best["copy"] / best["mix"], "", 0.35),
        at_most(f"{title}, peak memory", grown / model, "models", 3.0),
    ]


def _measure(what: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.blend", what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def copy(sources: list[Path], _folder: Path) -> None:
    """Copy every source out of its memory map, into memory of its own."""
    for source in sources:
        np.array(np.memmap(source, dtype=np.uint8, mode="r"))


def mix(sources: list[Path], folder: Path) -> None:
    """Mix the sources with uneven weights into one model."""
    from konsil.knowledge import mixing

    shares = [0.3] + [0.1] * (MODELS - 1)
    weights = mixing.quantise(shares)
    parts = [mixing.Part(path, w) for path, w in zip(sources, weights, strict=True)]
    mixing.mix(parts, folder / "mixed")


def main() -> None:
    """Measure one of the two and print what was seen."""
    what, folder = sys.argv[1], Path(sys.argv[2])
    sources = [folder / f"model-{number}" for number in range(MODELS)]
    work = {"copy": copy, "mix": mix}[what]
    import konsil.knowledge.mixing  # noqa: F401 - loaded before the clock starts

    reset_peak()
    idle, began = resident(), time.perf_counter()
    work(sources, folder)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "grown": peak() - idle}))
    (folder / "mixed").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
