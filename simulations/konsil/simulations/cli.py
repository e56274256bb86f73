"""`konsil demo`: a consortium of real daemons on this machine, in one command.

Talk goes to stderr: the names first, then the progress. The result goes to stdout: a table,
or one JSON object with `--json`. Everything heavy is imported inside the command.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from konsil.node.cli import output
from konsil.protocol.artifact import KINDS
from konsil.protocol.errors import GoalMissed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from konsil.protocol.errors import KonsilError
    from konsil.simulations.facts import LedgerFacts, RunFacts
    from konsil.simulations.plan import Kill, Plan, Wish

VERB = "demo"
INCOMPLETE = 4


def demo(
    hospitals: Annotated[int, typer.Option(help="Honest hospitals.")] = 4,
    byzantine: Annotated[int, typer.Option(help="Hostile hospitals, added to them.")] = 1,
    attack: Annotated[str, typer.Option(help="sign_flip, noise or free_rider.")] = "sign_flip",
    rounds: Annotated[int, typer.Option(help="Own rounds of each hospital.")] = 8,
    topology: Annotated[
        str,
        typer.Option(
            help="ring, ring_chords, star, complete, grid, random_regular or small_world."
        ),
    ] = "ring_chords",
    task: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="breast_cancer, heart, lesions, xray, nuclei, mixed, FILE.csv, FILE.py:function "
            "or module:function.",
        ),
    ] = "breast_cancer",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A key of [task.options]; may be repeated."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help=f"What is handed out: {', '.join(KINDS)}; by default what suits the task."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Names, split and first model follow from it.")] = 0,
    kill: Annotated[
        str | None,
        typer.Option(metavar="NAME@ROUND", help="Kill a daemon; NAME may be HUB."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An empty or new folder for the homes.")
    ] = None,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave the daemons up.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a consortium of real daemons on real data, here and now."""
    from konsil.simulations import plan as planning

    wish = planning.Wish(
        hospitals=hospitals, byzantine=byzantine, attack=attack, rounds=rounds, topology=topology,
        task=task, options=tuple(option or ()), kind=kind, seed=seed, kill=kill, out=out,
        keep_running=keep_running,
    )  # fmt: skip
    _perform(wish, as_json=as_json)


def _perform(wish: Wish, *, as_json: bool) -> None:
    """Run what was wished for, write the report, print the result and exit with its code."""
    import time

    from konsil.simulations import demo as running
    from konsil.simulations import plan as planning
    from konsil.simulations import report

    plan = planning.plan_of(wish, folder=Path.cwd())
    killing = planning.kill_of(wish.kill, plan)
    place = planning.fresh_folder(wish, folder=Path.cwd(), now_s=time.time())
    _announce(plan, killing, place)
    try:
        outcome = running.run(
            plan, killing, place, keep_running=wish.keep_running, tell=output.talk
        )
    except KeyboardInterrupt:
        stopped = GoalMissed("interrupted; every daemon was stopped")
        raise typer.Exit(output.fail(VERB, stopped, as_json=as_json)) from None
    facts = outcome.facts
    Path(facts.report).write_text(report.render(facts), encoding="utf-8")
    if wish.keep_running and outcome.error is None:
        _how_to_ask(plan, place)
    _finish(facts, outcome.error, as_json=as_json)


def _announce(plan: Plan, kill: Kill | None, place: Path) -> None:
    """The names first, then what is about to happen."""
    for one in plan.hospitals:
        output.talk(f"{one.name}{' (Byzantine)' if one.byzantine else ''}")
    count = len(plan.hospitals)
    output.talk(
        f"{count} daemons, {plan.topology}, {plan.rounds} rounds of {plan.task}, seed {plan.seed}"
    )
    if kill is not None:
        output.talk(f"{kill.name} will be killed in round {kill.round}")
    output.talk(f"homes: {place}")


def _how_to_ask(plan: Plan, place: Path) -> None:
    output.talk("The daemons are up. Ask one, for example:")
    for verb in ("status", "peers", "artifacts", "trust"):
        output.talk(f"  konsil node {verb} {place / plan.honest[0]}")
    output.talk("Stop them:")
    output.talk(f'  for home in {place}/*/; do konsil node stop "$home"; done')


def worst_ledger(ledgers: Iterable[LedgerFacts], killed: Collection[str]) -> LedgerFacts | None:
    """The ledger that fails the run: tampered (3) before incomplete (4).

    A kill may tear the last frame of a ledger; that is what a crash does, and no failure.
    """
    bad = [
        one
        for one in ledgers
        if not one.verified and not (one.grade == INCOMPLETE and one.name in killed)
    ]
    return min(bad, key=lambda one: one.grade, default=None)


def ledger_problem(bad: LedgerFacts, homes: Path) -> output.ErrorObject:
    """What to say of a ledger that fails a run."""
    torn = bad.grade == INCOMPLETE
    return output.ErrorObject(
        code="incomplete" if torn else "verification",
        message=f"the ledger of {bad.name} {'is incomplete' if torn else 'does not verify'}",
        hint=f"see: konsil audit verify {homes}/{bad.name}",
    )


def _finish(facts: RunFacts, error: KonsilError | None, *, as_json: bool) -> None:
    """Print the result and exit: 3 when a ledger does not verify, 1 when the run failed."""
    from konsil.simulations.summary import print_summary

    code, problem = 0, None
    bad = worst_ledger(facts.ledgers, facts.killed)
    if bad is not None:
        code, problem = bad.grade, ledger_problem(bad, Path(facts.out))
    elif error is not None:
        problem = output.ErrorObject(code=error.code, message=error.message, hint=error.hint)
        code = error.exit_code
    elif facts.failures:
        problem = output.ErrorObject(code="task", message=facts.failures[0], hint="")
        code = 1
    output.finish(
        VERB,
        facts.as_json(),
        exit_code=code,
        error=problem,
        as_json=as_json,
        text=lambda: print_summary(facts),
    )
