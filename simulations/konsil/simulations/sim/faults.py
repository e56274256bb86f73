"""Faults: what goes wrong in each round without anybody's intent, and how often it did.

Everything follows from the seed and the number of the round; a plan is asked for each round once
and counts what it decides. Links are directed, so an undirected edge counts twice where it is
cut or added.

- churn, late: `konsil.simulations.sim.presence`. `churn` counts who leaves, `returns` who comes
  back, `late` who joins.
- partition: in these rounds no link joins the two halves of one random split, drawn for the run.
- drop: each message that was sent to a node that is awake is lost with this chance.
- delay: what arrives is the model of 0 … delay_rounds rounds ago, evenly drawn, and never older
  than the first round's; counted where it arrives and is late. Who sent nothing in that round,
  because it was away or slow, is not heard.
- slow: these nodes train and publish in rounds 1, 11, 21, …; counted are the trainings left out.
- heal: `konsil.simulations.sim.healing`; counted are links that were not there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.knowledge.split import random_source
from konsil.simulations.sim.healing import around_the_absent
from konsil.simulations.sim.links import Links
from konsil.simulations.sim.presence import Presence, share_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from konsil.simulations.sim.links import Mask, Nodes
    from konsil.simulations.sim.scenario import Faults

SLOW_EVERY = 10
"""A slow node trains and publishes in one round of so many."""

_KINDS = {
    "churn": ("churn", "returns"),
    "partition": ("partition",),
    "drop": ("drop",),
    "delay_rounds": ("delay",),
    "slow": ("slow",),
    "late": ("late",),
    "heal": ("heal",),
}
"""What is counted for each key of `[faults]`; the first must happen."""


@dataclass(frozen=True)
class Condition:
    """What holds in one round of n nodes."""

    present: Mask
    """(n): has joined and is not away."""
    active: Mask
    """(n): present, and trains and publishes in this round."""
    links: Links
    """Among present nodes of one side, with those that healing added."""
    arrives: Mask
    """(links): the receiver trains in this round, and a message that was sent is not lost."""
    delay: Nodes
    """(links): how many rounds ago the model that arrives was sent."""
    counts: dict[str, int]
    """By kind, over all rounds that were asked for so far; only kinds that the scenario has."""


def halves(nodes: int, seed: int) -> Mask:
    """(n): one of the two halves into which a partition cuts the nodes of a run."""
    side: Mask = random_source("halves", seed).permutation(nodes) < nodes // 2
    return side


class FaultPlan:
    """The faults of a run; `step` is asked for each round once."""

    def __init__(
        self, faults: Faults, presence: Presence, slow: Mask, side: Nodes, seed: int
    ) -> None:
        self._faults = faults
        self._presence = presence
        self._slow = slow
        self._side = side
        self._seed = seed
        kinds = (kind for key in faults.requested for kind in _KINDS[key])
        self._totals = Counter(dict.fromkeys(kinds, 0))

    @classmethod
    def of(
        cls, faults: Faults, nodes: int, rounds: int, hostile: Collection[int], seed: int
    ) -> FaultPlan:
        """The plan for `nodes` nodes, of whom the `hostile` are Byzantine, and `rounds` rounds."""
        random = random_source("faults", seed)
        slow = random.permutation(nodes) < share_of(nodes, faults.slow)
        side = halves(nodes, seed).astype(np.int64)
        presence = Presence.of(faults, nodes, rounds, hostile, seed)
        return cls(faults, presence, slow, side, seed)

    def step(self, number: int, links: Links) -> Condition:
        """The condition of round `number`, from 1, where the topology has these links.

        The condition's `links` are the same object where no fault touches them.
        """
        before, present = self._presence.table[number - 1 : number + 1]
        joined = self._presence.joined(number)
        active = self._active(number)
        self._count("churn", before & ~present)
        self._count("returns", ~before & present & ~joined)
        self._count("late", joined)
        self._count("slow", present & ~active)
        reached = self._reached(number, links, present)
        arrives, delay = self._messages(number, reached)
        return Condition(present, active, reached, arrives, delay, dict(self._totals))

    def _reached(self, number: int, links: Links, present: Mask) -> Links:
        """The links that are left, and those that close the gaps."""
        cut = any(first <= number <= last for first, last in self._faults.partition)
        side = self._side if cut else np.zeros_like(self._side)
        whole = bool(present.all())
        if whole and not cut:
            return links
        among = present[links.receiver] & present[links.sender]
        crossing = among & (side[links.receiver] != side[links.sender])
        self._count("partition", crossing)
        kept = links.keep(among & ~crossing)
        if whole or not self._faults.heal:
            return kept
        receiver, sender = around_the_absent(links, present, side)
        healed = Links.of(
            links.nodes,
            np.concatenate([kept.receiver, receiver]),
            np.concatenate([kept.sender, sender]),
        )
        self._totals["heal"] += len(healed) - len(kept)
        return healed

    def _active(self, number: int) -> Mask:
        """Who trains and publishes in a round."""
        present: Mask = self._presence.table[number]
        return present & ~(self._slow & (number % SLOW_EVERY != 1))

    def _messages(self, number: int, links: Links) -> tuple[Mask, Nodes]:
        """Which messages arrive, and how late each is: only what was sent, to who is awake."""
        messages, active = len(links), self._active(number)
        delay = np.zeros(messages, dtype=np.int64)
        awake = active[links.receiver] & active[links.sender]
        if not (self._faults.drop or self._faults.delay_rounds):
            return awake, delay
        arrives = np.ones(messages, dtype=np.bool_)
        random = random_source("messages", self._seed, number)
        if self._faults.drop:
            arrives = random.random(messages) >= self._faults.drop
        if self._faults.delay_rounds:
            late = random.integers(0, self._faults.delay_rounds, endpoint=True, size=messages)
            delay = np.minimum(late, number - 1)
            oldest = int(delay.max(initial=0))
            released = np.stack([self._active(number - ago) for ago in range(oldest + 1)])
            awake = active[links.receiver] & released[delay, links.sender]
        self._count("drop", awake & ~arrives)
        arrives = awake & arrives
        self._count("delay", arrives & (delay > 0))
        return arrives, delay

    def _count(self, kind: str, happened: Mask) -> None:
        if kind in self._totals:
            self._totals[kind] += int(np.count_nonzero(happened))
