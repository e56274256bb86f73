"""What people see, and what the run makes of what it sees; without any daemon."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from konsil.simulations import gather, summary
from konsil.simulations.consortium import Sight, free_ports, read_status
from konsil.simulations.facts import Judgement
from konsil.simulations.plan import Wish, plan_of
from konsil.simulations.progress import Progress, plain_line

STATUS = {
    "name": "a", "node_id": "n", "phase": "training", "round": 3, "metrics": {"auc": 0.91},
    "neighbours": ["b"], "bytes_sent": 2048, "bytes_received": 1, "artifacts": {"parameters": 3},
    "integrated": 2, "task_error": None, "more": "is ignored",
}  # fmt: skip


def judged(observer, at, granted, peer="x"):
    return Judgement(observer=observer, peer=peer, round=at, trust=0.5, granted=granted)


def test_weight_is_the_mean_over_neighbours_of_their_last_quarter():
    seen = [judged("a", at, 0.9) for at in range(1, 7)] + [
        judged("a", 7, 0.2), judged("a", 8, 0.4), judged("b", 8, 0.9),
        judged("evil", 8, 1.0), judged("b", 8, 0.7, peer="y"), judged("x", 8, 1.0),
    ]  # fmt: skip
    assert gather.granted(seen, "x", ["a", "b"], 8) == pytest.approx((0.3 + 0.9) / 2)
    assert gather.granted(seen, "z", ["a", "b"], 8) is None
    assert gather.granted([judged("a", 3, 0.5)], "x", ["a"], 3) == 0.5
    assert gather.granted([judged("a", 2, 0.5)], "x", ["a"], 3) is None


def test_last_is_the_newest_value_there_is():
    assert gather.last((0.1, 0.2, None)) == 0.2
    assert gather.last(()) is None


def test_a_status_becomes_a_sight():
    sight = read_status(STATUS)
    assert (sight.phase, sight.round, sight.neighbours) == ("training", 3, ("b",))
    assert sight.metrics == {"auc": 0.91}


def test_free_ports_differ():
    ports = free_ports(20)
    assert len(set(ports)) == 20


def test_progress_is_a_plain_line_when_nobody_looks(tmp_path):
    plan = plan_of(Wish(), folder=tmp_path)
    console = Console(file=io.StringIO(), force_terminal=False, width=200)
    sights = {name: read_status(STATUS) for name in plan.names}
    with Progress(plan, console=console) as progress:
        for _ in range(5):
            progress.show(sights, {plan.names[1]: 3})
    lines = console.file.getvalue().splitlines()
    assert lines == [plain_line(sights, {plan.names[1]: 3}, plan.rounds)]
    assert f"{plan.names[0]} 3/8 training" in lines[0]
    assert f"{plan.names[1]} 3/8 killed" in lines[0]


def test_progress_is_a_live_table_on_a_terminal(tmp_path):
    plan = plan_of(Wish(), folder=tmp_path)
    console = Console(file=io.StringIO(), force_terminal=True, width=160, height=40)
    with Progress(plan, console=console) as progress:
        progress.show({plan.names[0]: read_status(STATUS)}, {plan.names[1]: 2})
        progress.say("[bold]said")
    shown = console.file.getvalue()
    for words in ("auc 0.910", "2.0 kB", "killed", "starting", "[bold]said", *plan.names):
        assert words in shown


def test_the_summary_has_a_row_for_each_and_all_that_counts(making):
    run = making()
    killed = run.hospitals[0].name if not run.hospitals[0].byzantine else run.hospitals[1].name
    run = making(killed={killed: 4})
    console = Console(file=io.StringIO(), width=140)
    summary.print_summary(run, console=console)
    shown = console.file.getvalue()
    for one in run.hospitals:
        assert one.name in shown
    for words in (
        "(Byzantine)", "killed in round 4", "pooled reference   0.988", "parameters: 40", "1.2 MB",
        "5 of 5", "report.html", "mean of the honest",
    ):  # fmt: skip
        assert words in shown


def test_a_sight_before_the_first_answer():
    assert Sight(phase="starting").round == 0
