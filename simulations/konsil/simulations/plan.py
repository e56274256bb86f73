"""What shall run, decided before anything starts: from a command line to a `Plan`.

Pure but for the look at the folder that shall hold the homes. The same wish gives the same
plan, names and links included.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from konsil.protocol.artifact import KINDS
from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations import adversary, population, topology
from konsil.simulations.adversary import ATTACKS
from konsil.simulations.population import Hospital, TaskChoice
from konsil.simulations.topology import Edge

CONSORTIUM = "konsil-demo"
HUB = "HUB"
"""The word that `--kill` takes for the member with most links."""


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the command line asked for."""

    hospitals: int = 4
    byzantine: int = 1
    attack: str = "sign_flip"
    rounds: int = 8
    topology: str = "ring_chords"
    task: str = "breast_cancer"
    options: tuple[str, ...] = ()
    kind: str | None = None
    seed: int = 0
    kill: str | None = None
    out: Path | None = None
    keep_running: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What shall run. Times in seconds."""

    name: str
    hospitals: tuple[Hospital, ...]
    links: tuple[Edge, ...]
    topology: str
    task: str
    choice: TaskChoice
    attack: str
    rounds: int
    seed: int
    kinds: tuple[str, ...] = ("parameters",)
    """What each hospital hands out, in turn by its site."""
    patience_s: float = 20.0
    task_timeout_s: float = 60.0

    @property
    def names(self) -> list[str]:
        """All members, in the order of the member list."""
        return [one.name for one in self.hospitals]

    @property
    def honest(self) -> list[str]:
        """The members that are not Byzantine."""
        return [one.name for one in self.hospitals if not one.byzantine]

    @property
    def limit_s(self) -> float:
        """How long a run may take before it counts as stuck."""
        return 120.0 + 3 * self.task_timeout_s + self.rounds * (self.patience_s + 10.0)

    def task_of(self, hospital: Hospital) -> tuple[str, dict[str, Any]]:
        """The factory and the options in one hospital's configuration."""
        options = self.choice.options_of(hospital, len(self.hospitals))
        if not hospital.byzantine:
            return self.choice.factory, options
        wrapped = {"attack": self.attack, "factory": self.choice.factory, "options": options}
        return adversary.FACTORY, wrapped

    def kind_of(self, hospital: Hospital) -> str:
        """What one hospital hands out."""
        return self.kinds[hospital.site % len(self.kinds)]

    def training_of(self, _hospital: Hospital) -> dict[str, Any]:
        """The `[training]` table of one hospital's configuration."""
        return {
            "device": "cpu",
            "seed": self.seed,
            "rounds": self.rounds,
            "patience_s": self.patience_s,
            "timeout_s": self.task_timeout_s,
            "start_wait_s": 20.0,
            "pause_s": 0.0,
        }


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """A daemon to be killed once it has reached a round of its own."""

    name: str
    round: int


def plan_of(wish: Wish, *, folder: Path) -> Plan:
    """The plan of a wish; files are looked up from `folder`.

    Raises `UsageError` or `ConfigError` in one line.
    """
    if wish.attack not in ATTACKS:
        raise UsageError(
            f"there is no attack `{wish.attack}`", hint=f"one of {', '.join(sorted(ATTACKS))}"
        )
    if wish.topology not in topology.TOPOLOGIES:
        raise UsageError(
            f"there is no topology `{wish.topology}`",
            hint=f"one of {', '.join(sorted(topology.TOPOLOGIES))}",
        )
    if wish.kind is not None and wish.kind not in KINDS:
        raise UsageError(f"there is no kind `{wish.kind}`", hint=f"one of {', '.join(KINDS)}")
    if wish.rounds < 1 or wish.seed < 0:
        raise UsageError("--rounds must be 1 or more, --seed 0 or more")
    choice = population.choose_task(wish.task, seed=wish.seed, folder=folder)
    choice = choice.with_options(wish.options)
    members = population.hospitals(
        honest=wish.hospitals, byzantine=wish.byzantine, seed=wish.seed, task=wish.task
    )
    names = [one.name for one in members]
    hub = next(one.name for one in members if not one.byzantine)
    return Plan(
        name=CONSORTIUM,
        hospitals=members,
        links=tuple(topology.edges(wish.topology, names, seed=wish.seed, hub=hub)),
        topology=wish.topology,
        task=wish.task,
        choice=choice,
        attack=wish.attack,
        rounds=wish.rounds,
        seed=wish.seed,
        kinds=(wish.kind,) if wish.kind else choice.kinds or (choice.kind,),
        task_timeout_s=30.0 + 3.0 * len(members),
    )


def kill_of(words: str | None, plan: Plan) -> Kill | None:
    """The kill that `NAME@ROUND` asks for; NAME may be HUB. Raises `UsageError`."""
    if words is None:
        return None
    name, _, at = words.partition("@")
    if name == HUB:
        name = topology.hub_of(plan.names, plan.links)
    if name not in plan.names or not at.isdecimal() or not 1 <= int(at) <= plan.rounds:
        raise UsageError(
            f"`--kill {words}` names no hospital and round",
            hint=f"write NAME@ROUND: {HUB}, {', '.join(plan.names)}; 1 to {plan.rounds}",
        )
    return Kill(name=name, round=int(at))


def fresh_folder(wish: Wish, *, folder: Path, now_s: float) -> Path:
    """The empty folder for the homes, made now. Raises `UsageError` when it is not empty."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_s))
    out = (folder / (wish.out or Path("konsil-demo") / f"{stamp}-seed{wish.seed}")).absolute()
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out}: this is no empty folder", hint="choose another --out")
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made: {error.strerror or error}") from error
    return out
