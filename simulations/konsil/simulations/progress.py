"""What people see while a consortium runs: a live table, or a plain line now and then.

Everything goes to stderr. On a terminal the table is redrawn in place; elsewhere one line
tells the rounds and phases, at most every `PLAIN_EVERY_S` and only when something changed.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from konsil.simulations.consortium import Sight
from konsil.simulations.report import bytes_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from konsil.simulations.plan import Plan

PLAIN_EVERY_S = 5.0

PHASE_STYLE = {
    "training": "cyan", "mixing": "magenta", "waiting": "yellow", "idle": "green",
    "failed": "bold red", "ended": "bold red", "killed": "red",
}  # fmt: skip


class Progress:
    """Shows sights as they come; use it as a context manager."""

    def __init__(self, plan: Plan, *, console: Console | None = None) -> None:
        self._plan = plan
        self._console = console or Console(file=sys.stderr)
        self._live = (
            Live(console=self._console, refresh_per_second=6, transient=True)
            if self._console.is_terminal
            else None
        )
        self._told = ""
        self._told_at = 0.0

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, sights: Mapping[str, Sight], killed: Mapping[str, int]) -> None:
        """Show the newest sights."""
        if self._live is not None:
            self._live.update(self.table(sights, killed))
            return
        line = plain_line(sights, killed, self._plan.rounds)
        now = time.monotonic()
        if line != self._told and now - self._told_at >= PLAIN_EVERY_S:
            self._told, self._told_at = line, now
            self.say(line)

    def say(self, line: str) -> None:
        """One line above the table."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def table(self, sights: Mapping[str, Sight], killed: Mapping[str, int]) -> Table:
        """One row for each hospital."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("hospital", "phase", "round", "own holdout", "neighbours", "sent"):
            table.add_column(name, justify="right" if name in ("round", "sent") else "left")
        for hospital in self._plan.hospitals:
            sight = sights.get(hospital.name, Sight(phase="starting"))
            phase = "killed" if hospital.name in killed else sight.phase
            table.add_row(
                Text(hospital.name, style="red" if hospital.byzantine else "bold"),
                Text(phase, style=PHASE_STYLE.get(phase, "dim")),
                _bar(sight.round, self._plan.rounds),
                ", ".join(f"{name} {value:.3f}" for name, value in sight.metrics.items()),
                ", ".join(sight.neighbours),
                bytes_text(sight.bytes_sent),
            )
        return table


def plain_line(sights: Mapping[str, Sight], killed: Mapping[str, int], rounds: int) -> str:
    """All hospitals in one line: name, round and phase."""
    return " · ".join(
        f"{name} {sight.round}/{rounds} {'killed' if name in killed else sight.phase}"
        for name, sight in sights.items()
    )


def _bar(done: int, rounds: int) -> Text:
    bar = Text(f"{done}/{rounds} ")
    bar.append("━" * min(done, rounds), style="cyan")
    bar.append("━" * max(rounds - done, 0), style="dim")
    return bar
