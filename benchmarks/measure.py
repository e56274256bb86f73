"""What a benchmark reads from the kernel and reports: memory, time of the processor, rows."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

MIB = 1024 * 1024


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `goal` is for people; `met` is None where there is only a figure."""

    name: str
    value: float
    unit: str = ""
    goal: str = ""
    met: bool | None = None
    turns: tuple[float, ...] = ()
    """The figure of each turn, of which `value` is the median or the worst."""


def at_least(name: str, turns: Sequence[float], least: float, unit: str = "") -> Row:
    """A figure whose median must not be smaller than `least`."""
    row = median(name, turns, unit)
    return msgspec.structs.replace(row, goal=f"≥ {least:g}", met=row.value >= least)


def at_most(name: str, turns: Sequence[float], most: float, unit: str = "") -> Row:
    """A figure that must not be larger than `most` in any turn."""
    row = msgspec.structs.replace(median(name, turns, unit), value=max(turns))
    return msgspec.structs.replace(row, goal=f"≤ {most:g}", met=row.value <= most)


def median(name: str, turns: Sequence[float], unit: str = "") -> Row:
    """The median of all turns, without a goal."""
    return Row(name=name, value=statistics.median(turns), unit=unit, turns=tuple(turns))


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Turn by turn, one over the other: what slows the machine for a while slows both."""
    return [a / b for a, b in zip(above, below, strict=True)]


def resident(pid: int | str = "self") -> int:
    """Bytes of a process that are in memory now."""
    return _status(pid, "VmRSS")


def reset_peak() -> None:
    """Forget this process's peak of resident memory (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most bytes that were in memory since `reset_peak`."""
    return _status("self", "VmHWM")


def cpu_seconds(pid: int) -> float:
    """Seconds of the processor that a process has used, its kernel time included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The processes that a process, in whichever thread, has started and that still run."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in found for word in path.read_text().split()]


def _status(pid: int | str, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
