"""Emulation: one scenario played by real daemons, from their start to the result.

Nothing here learns or judges: the daemons do. Whatever happens, no process is left behind.
Rounds are not in lockstep, so that a result is near a simulation's and never the same.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from konsil.simulations import demo, reading
from konsil.simulations.consortium import Consortium
from konsil.simulations.progress import Progress
from konsil.simulations.sim.emulate.casting import cast_of
from konsil.simulations.sim.emulate.conducting import Conducting
from konsil.simulations.sim.emulate.gauging import Gauge, least, mean
from konsil.simulations.sim.emulate.namespaces import Namespaces
from konsil.simulations.sim.emulate.timetable import Timetable
from konsil.simulations.sim.engine import threads
from konsil.simulations.sim.result import Result
from konsil.simulations.sim.setting import setting_of
from konsil.simulations.sim.spectrum import gap_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from konsil.simulations.facts import LedgerFacts
    from konsil.simulations.sim.emulate.limits import Lines
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.setting import Setting


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How a scenario shall be played."""

    folder: Path
    """From which the scenario's files are looked up."""
    lines: Lines
    patience_s: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run that came to its end."""

    result: Result
    ledgers: tuple[LedgerFacts, ...]
    killed: frozenset[str]
    """Nodes that did not heed a request to stop, and so may have a torn ledger."""
    homes: Path


@dataclass(frozen=True, kw_only=True)
class _Played:
    """What is known once the daemons have stopped."""

    members: Mapping[str, str]
    faults: Mapping[str, int]
    bytes_sent: int
    killed: frozenset[str]
    run_s: float


def run(scenario: Scenario, wish: Wish, homes: Path, tell: Callable[[str], None]) -> Outcome:
    """Play a scenario in the empty folder `homes`.

    Raises `ConfigError` for what its own checks could not see, and what ended it early.
    """
    began = time.monotonic()
    setting = setting_of(scenario, wish.folder)
    timetable = Timetable.of(scenario, setting.hostile.tolist())
    played = _play(setting, timetable, wish, homes, tell)
    tell("reading the ledgers and measuring the models")
    clock = time.monotonic()
    places = {name: homes / name for name in played.members}
    ledgers = reading.verify(places)
    with threads(setting.network.layout.elements):
        gauge = Gauge(setting, timetable, places, played.members)
        result = _result(setting, gauge, played)
    now = time.monotonic()
    result = msgspec.structs.replace(
        result,
        wall_s=now - began,
        setup_s=clock - began - played.run_s,
        eval_s=now - clock,
    )
    return Outcome(result=result, ledgers=ledgers, killed=played.killed, homes=homes)


def _play(
    setting: Setting, timetable: Timetable, wish: Wish, homes: Path, tell: Callable[[str], None]
) -> _Played:
    """Run the daemons to their end; stop them also where this raises."""
    cast = cast_of(setting, timetable, wish.folder, patience_s=wish.patience_s)
    tell(
        f"{len(cast.hospitals)} daemons, {cast.topology}, {cast.rounds} rounds of {cast.task},"
        f" seed {cast.seed}, homes: {homes}"
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(demo.interruptible())
        spaces = None
        if wish.lines.netns:
            spaces = stack.enter_context(Namespaces(setting.nodes, wish.lines))
        consortium = stack.enter_context(Consortium(cast, homes, spaces))
        members = consortium.create()
        conducting = Conducting(setting, timetable, consortium, spaces)
        began = time.monotonic()
        conducting.begin()
        with Progress(cast) as progress:
            error = demo.watch(consortium, None, progress, conducting)
        run_s = time.monotonic() - began
        hindered = {} if spaces is None else spaces.counts()
        consortium.stop()
        if error is not None:
            raise error
        return _Played(
            members=members,
            faults={**conducting.counts, **hindered},
            bytes_sent=conducting.bytes_sent,
            killed=conducting.killed,
            run_s=run_s,
        )


def _result(setting: Setting, gauge: Gauge, played: _Played) -> Result:
    """The fields of a simulation's result; times are filled in later."""
    scenario, rounds = setting.scenario, setting.scenario.training.rounds
    history, local = gauge.history(), gauge.local()
    last = gauge.metrics(rounds)
    kept = rounds - math.ceil(3 * rounds / 4) + 1
    return Result(
        nodes=setting.nodes,
        rounds=rounds,
        topology=scenario.topology.kind,
        dataset=scenario.population.dataset,
        rule=scenario.trust.rule,
        metric=scenario.population.metric,
        metric_mean=mean(last),
        metric_worst=least(last),
        metric_local_mean=mean(local),
        metric_local_worst=least(local),
        metric_pooled=gauge.pooled(),
        attacker_weight_mean=gauge.weight(0, kept, rounds),
        honest_weight_mean=gauge.weight(1, kept, rounds),
        bytes_per_node_round=played.bytes_sent / (setting.nodes * rounds),
        faults=dict(played.faults),
        spectral_gap=gap_of(setting.graphs),
        wall_s=0.0,
        setup_s=0.0,
        eval_s=0.0,
        cpu_s=math.nan,
        node_rounds_per_cpu_s=None,
        peak_rss_mb=None,
        history=history,
        seed=scenario.seed,
    )
