"""What people see while a simulation runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from konsil.simulations.sim import live
from konsil.simulations.sim.live import Progress, View

HALF = Progress(
    round=5, rounds=10, metric_mean=0.91234, metric_worst=0.5, attacker_weight_mean=0.031,
    node_rounds_per_cpu_s=12345.6, faults={"drop": 7},
)  # fmt: skip
FACTS = "mean 0.912 · worst 0.500 · attackers' weight 3% · 12,346 node-rounds a CPU second · drop 7"


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    now = [100.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def watched(tells, *, terminal=False, silent=False, runs=1):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    with View(runs, silent=silent, console=console) as view:
        tells(view)
    return out.getvalue()


def test_what_is_not_known_is_not_shown():
    assert live.facts_line(HALF) == FACTS
    assert live.facts_line(Progress(round=1, rounds=2)) == ""


def test_elsewhere_a_line_comes_now_and_then(clock):
    def tells(view):
        view.begin(2)
        for seconds in (0, 3, 5, 7):
            clock[0] = 100.0 + seconds
            view.tell(HALF)

    said = watched(tells, runs=2)
    assert said == f"run 2 of 2, round 5/10 · {FACTS} · 2 s left\n"


def test_on_a_terminal_progress_is_redrawn_and_gone_in_the_end():
    said = watched(lambda view: view.tell(HALF), terminal=True)
    assert "5/10" in said
    assert "mean 0.912" in said
    assert said.rstrip().endswith("\x1b[2K")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_silent_view_shows_nothing(clock, terminal):
    def tells(view):
        clock[0] += 60
        view.tell(HALF)

    assert watched(tells, terminal=terminal, silent=True) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_for_people(seconds, words):
    assert live.duration(seconds) == words
