"""What `konsil sim emulate` does, once its words are known: check, run, print, and tidy up.

Talk goes to stderr, the result to stdout. Without `--out` the homes lie in a temporary folder,
which stays only where a run failed, for its logs and ledgers.

    DIR/result.json      the data that --json prints
    DIR/scenario.toml    the scenario with every default written out
    DIR/seed-S/node-I    the homes of each run
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import typer

from konsil.node.cli import output
from konsil.node.store.durable import storage_error
from konsil.protocol.errors import GoalMissed, KonsilError
from konsil.simulations.cli import ledger_problem, worst_ledger
from konsil.simulations.plan import Wish as FolderWish
from konsil.simulations.plan import fresh_folder
from konsil.simulations.sim.emulate import limits, namespaces
from konsil.simulations.sim.result import combine, faults_missed
from konsil.simulations.sim.scenario_reading import read_scenario
from konsil.simulations.sim.seeds import plain, under_seeds
from konsil.simulations.sim.summary import print_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.simulations.sim.emulate.emulation import Outcome
    from konsil.simulations.sim.emulate.limits import Lines
    from konsil.simulations.sim.result import Json
    from konsil.simulations.sim.scenario import Scenario

VERB = "sim.emulate"


def perform(
    path: Path, *, seeds: int, out: Path | None, lines: Lines, patience_s: float, as_json: bool
) -> None:
    """Read the scenario at `path`, play it under so many seeds, print and exit."""
    lines.check()
    scenario = read_scenario(path)
    asked = under_seeds(scenario, seeds)
    limits.check(scenario, lines, available_mb=limits.free_mb())
    namespaces.require(lines)
    kept = out and fresh_folder(FolderWish(out=out), folder=Path.cwd(), now_s=0.0)
    place = kept or Path(tempfile.mkdtemp(prefix="konsil-emulate-"))
    try:
        outcomes = _play(asked, path.parent, place, lines, patience_s)
        data = combine([one.result for one in outcomes])
        if kept is not None:
            _write(kept, data, scenario)
    except KeyboardInterrupt:
        _tidy(place, kept=kept is not None)
        stopped = GoalMissed("interrupted; every daemon was stopped")
        raise typer.Exit(output.fail(VERB, stopped, as_json=as_json)) from None
    except KonsilError:
        _tidy(place, kept=True)
        raise
    code, problem = verdict(scenario, lines, outcomes)
    _tidy(place, kept=kept is not None or code != 0)
    _finish(data, code, problem, as_json=as_json)


def verdict(
    scenario: Scenario, lines: Lines, outcomes: Sequence[Outcome]
) -> tuple[int, output.ErrorObject | None]:
    """The exit code, and why: a ledger that fails (3, 4), or a fault that never happened (1)."""
    for one in outcomes:
        bad = worst_ledger(one.ledgers, one.killed)
        if bad is not None:
            return bad.grade, ledger_problem(bad, one.homes)
    for one in outcomes:
        counts = one.result.faults
        missed = [f"[faults] {key}" for key in faults_missed(scenario, one.result)]
        missed += [f"--{kind}" for kind in lines.asked if not counts.get(kind)]
        if missed:
            return GoalMissed.exit_code, output.ErrorObject(
                code=GoalMissed.code,
                message=f"{missed[0]}: this never happened under seed {one.result.seed}",
                hint="raise it, or run more rounds or nodes",
            )
    return 0, None


def _play(
    asked: Sequence[Scenario], folder: Path, place: Path, lines: Lines, patience_s: float
) -> list[Outcome]:
    from konsil.simulations.sim.emulate import emulation

    wish = emulation.Wish(folder=folder, lines=lines, patience_s=patience_s)
    outcomes = []
    for one in asked:
        homes = place / f"seed-{one.seed}"
        homes.mkdir()
        outcomes.append(emulation.run(one, wish, homes, output.talk))
    return outcomes


def _write(place: Path, data: Json, scenario: Scenario) -> None:
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=2)
        (place / "result.json").write_text(f"{text}\n", encoding="utf-8")
        (place / "scenario.toml").write_bytes(msgspec.toml.encode(plain(scenario)))
    except OSError as error:
        raise storage_error(place, error) from error


def _tidy(place: Path, *, kept: bool) -> None:
    """Remove the homes, or tell where they are."""
    if kept:
        output.talk(f"homes, with their logs: {place}")
    else:
        shutil.rmtree(place, ignore_errors=True)


def _finish(
    data: Json, code: int, problem: output.ErrorObject | None, *, as_json: bool
) -> NoReturn:
    output.finish(
        VERB,
        data,
        exit_code=code,
        error=problem,
        as_json=as_json,
        text=lambda: print_run(data),
    )
