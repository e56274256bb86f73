"""`konsil sim`: simulate a whole network of hospitals in one process.

Talk goes to stderr: progress, and what is amiss. The result goes to stdout: a table, or one JSON
object with `--json`. Everything heavy is imported inside the commands.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from konsil.node.cli import output
from konsil.protocol.errors import ConfigError, GoalMissed, TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from konsil.simulations.sim.portrait import Portrait
    from konsil.simulations.sim.result import Json, Result
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.seeds import Variant

    Runs = Sequence[tuple[Variant, Sequence[Result]]]
    """Each variant, with its results under every seed."""
    Portraits = Sequence[Sequence[Portrait]]
    """Of the same variants and seeds, for the plots."""

VERB = "sim.run"

_NO_MEMORY = re.compile(r"can't allocate memory|out of memory")
"""What torch says of it, in a plain RuntimeError."""

app = typer.Typer(no_args_is_help=True, help="Simulate a network of hospitals in one process.")


@app.callback()
def _group() -> None:
    """Simulate a network of hospitals in one process."""


@app.command()
def run(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.toml", help="What shall be run.")],
    seeds: Annotated[
        int, typer.Option(metavar="K", help="Run it under K seeds: means and spreads.")
    ] = 1,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=A,B,C",
            help="Run it with each value of a key such as adversary.fraction; may be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder for result, scenario and plots."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where tensors live.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a scenario, under several seeds or with several values if asked to."""
    from konsil.simulations.sim import folder, room
    from konsil.simulations.sim.scenario_reading import read_scenario
    from konsil.simulations.sim.seeds import under_seeds, variants

    try:
        given = variants(read_scenario(scenario), sweep or ())
        asked = [(one, under_seeds(one.scenario, seeds)) for one in given]
        for one in given:
            with _told_of(scenario, one):
                room.check(one.scenario, room.free_mb())
        with folder.opened(out) if out else contextlib.nullcontext() as place:
            runs, portraits = _simulate(asked, scenario, place=place, device=device, silent=as_json)
            data = _data(runs)
            if place is not None:
                folder.write(place, data, runs, portraits, tell=output.talk)
    except KeyboardInterrupt:
        stopped = GoalMissed("interrupted; there is no result")
        raise typer.Exit(output.fail(VERB, stopped, as_json=as_json)) from None
    if place is not None:
        output.talk(f"written to {place}")
    _finish(data, runs, as_json=as_json)


@app.command()
def emulate(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.toml", help="What shall be run.")],
    seeds: Annotated[
        int, typer.Option(metavar="K", help="Run it under K seeds: means and spreads.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new or empty folder for result, scenario and homes."),
    ] = None,
    patience_s: Annotated[
        float,
        typer.Option(min=0.0, max=86_400.0, help="Seconds a round waits for silent neighbours."),
    ] = 20.0,
    netns: Annotated[
        bool, typer.Option("--netns", help="Each node in a network namespace of its own.")
    ] = False,
    latency_ms: Annotated[float, typer.Option(help="Delay of what a node sends (--netns).")] = 0.0,
    loss: Annotated[
        float, typer.Option(help="Share of its packets that are lost (--netns).")
    ] = 0.0,
    rate_mbit: Annotated[float, typer.Option(help="The most a node sends (--netns).")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run a scenario with real daemons over libp2p on this machine."""
    from konsil.simulations.sim.emulate import command
    from konsil.simulations.sim.emulate.limits import Lines

    lines = Lines(netns=netns, latency_ms=latency_ms, loss=loss, rate_mbit=rate_mbit)
    command.perform(
        scenario, seeds=seeds, out=out, lines=lines, patience_s=patience_s, as_json=as_json
    )


@app.command()
def bench(
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds of each turn.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the simulator against the fastest that its mathematics allow."""
    from konsil.simulations.sim.bench.measuring import measure, print_bench

    data = measure(rounds)
    output.emit("sim.bench", data, as_json=as_json, text=lambda: print_bench(data))


def _simulate(
    asked: Sequence[tuple[Variant, Sequence[Scenario]]],
    file: Path,
    *,
    place: Path | None,
    device: str,
    silent: bool,
) -> tuple[Runs, Portraits]:
    """Run everything that was asked for, one after the other; ledgers are kept in `place`."""
    from konsil.simulations.sim import engine, live
    from konsil.simulations.sim.folder import homes_of

    runs = []
    portraits: list[list[Portrait]] = []
    count = 0
    with live.View(sum(len(several) for _, several in asked), silent=silent) as view:
        for number, (variant, several) in enumerate(asked, start=1):
            results = []
            portraits.append([])
            for one in several:
                count += 1
                view.begin(count)
                homes = place and homes_of(place, variant, number, one, len(several))
                with _told_of(file, variant):
                    result = engine.simulate(
                        one,
                        file.parent,
                        device=device,
                        tell=view.tell,
                        portray=portraits[-1].append,
                        homes=homes,
                    )
                results.append(result)
            runs.append((variant, results))
    return runs, portraits


@contextlib.contextmanager
def _told_of(file: Path, variant: Variant) -> Iterator[None]:
    """Errors say which scenario they are about; one that fills the memory is a wrong one."""
    from konsil.simulations.sim.seeds import told

    where = f"--sweep {told(variant.settings)}" if variant.settings else f"{file}"
    try:
        yield
    except (ConfigError, TaskError) as error:
        raise type(error)(f"{where}: {error.message}", hint=error.hint) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise ConfigError(
            f"{where}: this needs more memory than there is",
            hint="take fewer nodes or rows, a smaller model, or fewer steps in a round",
        ) from error


def _data(runs: Runs) -> Json:
    """The `data` of the envelope: the result itself, or one for each variant of a sweep."""
    from konsil.simulations.sim.result import combine

    if not runs[0][0].settings:
        return combine(runs[0][1])
    return {"runs": [{"set": one.settings, **combine(results)} for one, results in runs]}


def _finish(data: Json, runs: Runs, *, as_json: bool) -> None:
    """Print the result and exit: 1 when a fault that was asked for never happened, or where the
    models have no value of the metric."""
    from konsil.simulations.sim.result import faults_missed, unmeasured
    from konsil.simulations.sim.summary import print_run, print_sweep

    missed = [
        (kind, one.seed)
        for variant, results in runs
        for one in results
        for kind in faults_missed(variant.scenario, one)
    ]
    problem = None
    if missed:
        kind, seed = missed[0]
        problem = output.ErrorObject(
            code=GoalMissed.code,
            message=f"the fault `{kind}` never happened under seed {seed}",
            hint=f"raise [faults] {kind}, or run more rounds or nodes",
        )
    without = [one for _, results in runs for one in results if unmeasured(one)]
    if without and problem is None:
        problem = output.ErrorObject(
            code=GoalMissed.code,
            message=f"no model has a value of {without[0].metric} under seed {without[0].seed}",
            hint="lower [training] lr; or the test rows cannot give that metric",
        )
    output.finish(
        VERB,
        data,
        exit_code=GoalMissed.exit_code if problem else 0,
        error=problem,
        as_json=as_json,
        text=lambda: print_sweep(data) if "runs" in data else print_run(data),
    )
