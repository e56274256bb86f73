"""What a benchmark reads from the kernel and reports: memory, time of the processor, rows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

MIB = 1024 * 1024


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `goal` is for people; `ok` is None where there is only a figure."""

    name: str
    value: float
    unit: str
    goal: str = ""
    ok: bool | None = None


def at_least(name: str, value: float, unit: str, least: float) -> Row:
    """A figure that must not be smaller than `least`."""
    return Row(name=name, value=value, unit=unit, goal=f"≥ {least:g}", ok=value >= least)


def at_most(name: str, value: float, unit: str, most: float) -> Row:
    """A figure that must not be larger than `most`."""
    return Row(name=name, value=value, unit=unit, goal=f"≤ {most:g}", ok=value <= most)


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
    """The processes that a process has started and that still run."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _status(pid: int | str, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)
