"""What people see while a simulation runs: progress with rates and the time left, on stderr.

On a terminal one line is redrawn in place; elsewhere a plain line comes at most every
`PLAIN_EVERY_S`. A silent view shows nothing. Nothing here changes what is computed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from types import TracebackType

PLAIN_EVERY_S = 5.0


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How far a run is: after this round, and as last evaluated."""

    round: int
    rounds: int
    metric_mean: float | None = None
    metric_worst: float | None = None
    attacker_weight_mean: float | None = None
    node_rounds_per_cpu_s: float | None = None
    faults: Mapping[str, int] = {}
    """Faults that happened so far, by kind."""


class View:
    """Shows the progress of `runs` runs, one after the other; use it as a context manager."""

    def __init__(self, runs: int, *, silent: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._runs = runs
        self._run = 1
        self._silent = silent
        self._began = self._told_at = time.monotonic()
        self._bar = self._new_bar() if self._console.is_terminal and not silent else None
        self._task = None if self._bar is None else self._bar.add_task("", total=None, facts="")

    def _new_bar(self) -> Bar:
        return Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )

    def __enter__(self) -> View:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, run: int) -> None:
        """Run number `run`, from 1, begins."""
        self._run = run

    def tell(self, progress: Progress) -> None:
        """Show how far the present run is."""
        if self._silent:
            return
        done = (self._run - 1) * progress.rounds + progress.round
        total = self._runs * progress.rounds
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=done, total=total, facts=facts_line(progress),
                description=self._name(),
            )  # fmt: skip
            return
        now = time.monotonic()
        if now - self._told_at >= PLAIN_EVERY_S:
            self._told_at = now
            left = (now - self._began) * (total - done) / max(done, 1)
            where = f"{self._name()} {progress.round}/{progress.rounds}"
            line = f"{where} · {facts_line(progress)} · {duration(left)} left"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _name(self) -> str:
        return f"run {self._run} of {self._runs}, round" if self._runs > 1 else "round"


def facts_line(progress: Progress) -> str:
    """What is known so far, in one line."""
    parts = []
    if progress.metric_mean is not None:
        parts.append(f"mean {progress.metric_mean:.3f}")
    if progress.metric_worst is not None:
        parts.append(f"worst {progress.metric_worst:.3f}")
    if progress.attacker_weight_mean is not None:
        parts.append(f"attackers' weight {progress.attacker_weight_mean:.0%}")
    if progress.node_rounds_per_cpu_s is not None:
        parts.append(f"{progress.node_rounds_per_cpu_s:,.0f} node-rounds a CPU second")
    parts.extend(f"{kind} {count}" for kind, count in progress.faults.items())
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time for people: `42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
