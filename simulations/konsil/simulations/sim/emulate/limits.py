"""Limits: which scenarios real daemons can play, and how many of them fit this machine.

What a daemon cannot do (other rules, attacks that see every node) and what cannot be done to it
from outside (messages late by whole rounds) is refused in one line, before anything starts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol.errors import ConfigError, UsageError
from konsil.simulations.sim.emulate.hostile import ALONE

if TYPE_CHECKING:
    from konsil.simulations.sim.scenario import Scenario

RULES = ("evidence", "local_only")
"""The rule of the daemons, and that of daemons without any link."""
NODE_MB = 350
"""What a daemon (about 100 MB) and its worker with torch (about 250 MB) take."""
INSTEAD = "use konsil sim run"


class Lines(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How nodes are joined: over the loopback, or each in a network namespace of its own."""

    netns: bool = False
    latency_ms: float = 0.0
    """One way, added to whatever a node sends."""
    loss: float = 0.0
    """Share of the packets that a node sends and nobody gets."""
    rate_mbit: float = 0.0
    """The most that a node sends, in megabits a second; 0 is no bound."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The kinds of hindrance that must happen."""
        kinds = {"latency": self.latency_ms, "loss": self.loss, "rate": self.rate_mbit}
        return tuple(kind for kind, value in kinds.items() if value > 0)

    def check(self) -> None:
        """Raise `UsageError` for what is out of range, or needs namespaces."""
        if self.asked and not self.netns:
            raise UsageError("--latency-ms, --loss and --rate-mbit need --netns", hint="add it")
        if not 0 <= self.latency_ms <= 60_000:
            raise UsageError(f"--latency-ms {self.latency_ms:g} is not from 0 to 60000")
        if not 0 <= self.loss < 1:
            raise UsageError(f"--loss {self.loss:g} is no share from 0 to below 1")
        if not 0 <= self.rate_mbit <= 1_000_000:
            raise UsageError(f"--rate-mbit {self.rate_mbit:g} is not from 0 to 1000000")


def check(scenario: Scenario, lines: Lines, *, available_mb: int | None) -> None:
    """Raise `ConfigError` for the first thing that daemons cannot do.

    `available_mb` is the memory of this machine that is free; None where that is not known.
    """
    _learning(scenario)
    _faults(scenario, lines)
    nodes = scenario.population.nodes
    if available_mb is not None and nodes * NODE_MB > available_mb:
        fit = available_mb // NODE_MB
        raise ConfigError(
            f"[population] nodes = {nodes} need about {nodes * NODE_MB} MB as daemons, and"
            f" {available_mb} MB are free: {fit} fit",
            hint=f"take at most {fit} nodes" if fit > 1 else INSTEAD,
        )


def _learning(scenario: Scenario) -> None:
    from konsil.simulations.sim.graphs import CHANGING

    rule, kind = scenario.trust.rule, scenario.topology.kind
    if rule not in RULES:
        raise ConfigError(
            f'[trust] rule = "{rule}" is none of a daemon',
            hint=f"{INSTEAD}, or one of {', '.join(RULES)}",
        )
    if len(set(scenario.population.models)) > 1:
        raise ConfigError(
            "[population] model: unlike networks are not emulated",
            hint=f"{INSTEAD}, or konsil demo --task mixed",
        )
    if kind in CHANGING:
        raise ConfigError(
            f'[topology] kind = "{kind}" changes over the rounds, which links of daemons do not',
            hint=INSTEAD,
        )
    if scenario.population.drift > 0:
        raise ConfigError(
            "[population] drift moves the rows between rounds, which those of a daemon do not",
            hint=INSTEAD,
        )
    for attack in scenario.adversary.attacks:
        if attack not in ALONE:
            raise ConfigError(
                f'[adversary] attack = "{attack}" needs what other nodes know, which a daemon'
                " does not see",
                hint=f"{INSTEAD}, or one of {', '.join(ALONE)}",
            )


def _faults(scenario: Scenario, lines: Lines) -> None:
    faults = scenario.faults
    refused = {
        "drop": (faults.drop, "libp2p sends again what is lost", "--netns --loss loses packets"),
        "delay_rounds": (
            faults.delay_rounds, "daemons have no rounds in common", "--netns --latency-ms delays",
        ),
        "slow": (faults.slow, "daemons have no rounds in common", INSTEAD),
    }  # fmt: skip
    for name, (value, reason, hint) in refused.items():
        if value:
            raise ConfigError(f"[faults] {name} = {value:g}: {reason}", hint=hint)
    if faults.partition and not lines.netns:
        raise ConfigError("[faults] partition: the loopback cannot be cut", hint="add --netns")
    if scenario.trust.rule == "local_only" and (faults.partition or faults.heal):
        name = "partition" if faults.partition else "heal"
        raise ConfigError(
            f'[faults] {name} cannot happen where rule = "local_only" links nobody', hint=INSTEAD
        )


def free_mb(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """The memory that new processes can have, in MB; None where the system does not tell."""
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) // 1024
