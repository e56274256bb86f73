"""Casting: from a scenario made ready to the plan of a consortium that plays it.

Nodes keep the names, rows, start model and batches that the simulator gives them. Each daemon
gets the whole scenario as text, so that a home holds all that its task is built from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from konsil.simulations.plan import Plan
from konsil.simulations.population import Hospital, TaskChoice
from konsil.simulations.sim import datasets
from konsil.simulations.sim.emulate import hostile
from konsil.simulations.sim.seeds import plain
from konsil.simulations.sim.setting import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from konsil.simulations.sim.emulate.timetable import Timetable
    from konsil.simulations.sim.scenario import Scenario
    from konsil.simulations.sim.setting import Setting
    from konsil.simulations.topology import Edge

CONSORTIUM = "konsil-emulate"
SITE = "konsil.simulations.sim.site:build"
"""The task factory of an honest node."""
REST_S = 1.0
"""Rest between two rounds where nodes come and go: a process takes seconds to start."""


class Cast(Plan, frozen=True, kw_only=True):
    """The plan of a consortium that plays a scenario."""

    own_rounds: Mapping[str, int]
    attacks: Mapping[str, str]
    """What each Byzantine node does."""
    strength: float | None
    pause_s: float = 0.0

    @property
    def limit_s(self) -> float:
        """How long a run may take before it counts as stuck."""
        return super().limit_s + self.rounds * self.pause_s

    def task_of(self, hospital: Hospital) -> tuple[str, dict[str, Any]]:
        """The factory and the options in one node's configuration."""
        options: dict[str, Any] = {**self.choice.options, "site": hospital.site}
        if not hospital.byzantine:
            return self.choice.factory, options
        options["attack"] = self.attacks[hospital.name]
        if self.strength is not None:
            options["strength"] = self.strength
        return hostile.FACTORY, options

    def training_of(self, hospital: Hospital) -> dict[str, Any]:
        """The `[training]` table of one node's configuration."""
        # A node without any round is never started; 0 would be rounds without an end.
        rounds = max(1, self.own_rounds[hospital.name])
        # Without links there is nobody to wait for.
        patience_s = self.patience_s if self.links else 0.0
        own = {"rounds": rounds, "pause_s": self.pause_s, "patience_s": patience_s}
        # A simulated round is one for all, so nobody is late in it.
        own["late_after_s"] = patience_s
        return {**super().training_of(hospital), **own}


def cast_of(setting: Setting, timetable: Timetable, folder: Path, *, patience_s: float) -> Cast:
    """The plan for a scenario whose files lie in `folder`."""
    scenario = setting.scenario
    names = [name_of(node) for node in range(setting.nodes)]
    attacks, faults = scenario.adversary.attacks, scenario.faults
    return Cast(
        name=CONSORTIUM,
        hospitals=tuple(
            Hospital(name=name, site=node, byzantine=not setting.honest[node])
            for node, name in enumerate(names)
        ),
        links=() if scenario.trust.rule == "local_only" else _edges(setting, names),
        topology=scenario.topology.kind,
        task=scenario.population.dataset,
        choice=_choice(scenario, folder),
        attack=", ".join(attacks),
        attacks={
            names[node]: attacks[place % len(attacks)]
            for place, node in enumerate(setting.hostile.tolist())
        },
        strength=scenario.adversary.strength,
        rounds=scenario.training.rounds,
        own_rounds={
            name: timetable.own_until(node, timetable.rounds) for node, name in enumerate(names)
        },
        seed=scenario.seed,
        kinds=(scenario.artifacts.kind,),
        patience_s=patience_s,
        pause_s=REST_S if faults.churn or faults.late or faults.partition else 0.0,
        task_timeout_s=60.0 + 5.0 * len(names),
    )


def _edges(setting: Setting, names: list[str]) -> tuple[Edge, ...]:
    links = setting.graphs.at(1)
    pairs = zip(links.receiver.tolist(), links.sender.tolist(), strict=True)
    return tuple((names[one], names[other]) for one, other in pairs if one < other)


def _choice(scenario: Scenario, folder: Path) -> TaskChoice:
    """What every node's task is built from; data is found from wherever its home lies."""
    population, folder = scenario.population, folder.resolve()
    if population.dataset.endswith(tuple(datasets.FILES)):
        population = msgspec.structs.replace(population, dataset=str(folder / population.dataset))
    told = msgspec.structs.replace(scenario, population=population)
    text = msgspec.toml.encode(plain(told)).decode()
    own = folder / f"{population.models[0].partition(':')[0]}.py"
    return TaskChoice(factory=SITE, options={"scenario": text}, file=own if own.is_file() else None)
