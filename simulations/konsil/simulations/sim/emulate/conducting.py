"""Conducting: faults that are done to running daemons, and counted where they happened.

Daemons have no rounds in common. The clock here is the middle one of the scenario's rounds that
the nodes have reached; a node goes when its own rounds say so, and comes back, or a cut begins,
when the clock does. So faults strike about a round early or late.

- late: a process is started at half time; returns: started again; churn: stopped in order;
- partition: links cut for a round, both directions, as in a simulation;
- heal: pairs of neighbours, in both directions, that the topology does not have.
"""

from __future__ import annotations

import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from konsil.simulations.consortium import Sight
from konsil.simulations.sim.faults import halves
from konsil.simulations.sim.setting import name_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.simulations.consortium import Consortium
    from konsil.simulations.sim.emulate.namespaces import Namespaces
    from konsil.simulations.sim.emulate.timetable import Timetable
    from konsil.simulations.sim.setting import Setting

KINDS = {
    "churn": ("churn", "returns"), "partition": ("partition",), "late": ("late",),
    "heal": ("heal",),
}  # fmt: skip
"""What is counted for each key of `[faults]` that can be done to daemons."""
_UNSEEN = Sight(phase="starting")


class Conducting:
    """The faults of one run; call it with each look at the daemons."""

    def __init__(
        self,
        setting: Setting,
        timetable: Timetable,
        consortium: Consortium,
        spaces: Namespaces | None,
    ) -> None:
        self._setting, self._timetable = setting, timetable
        self._consortium, self._spaces = consortium, spaces
        self._faults = setting.scenario.faults
        self._stays = [timetable.stays(node) for node in range(setting.nodes)]
        self._stay = [0] * setting.nodes
        """Which of its stays each node is in, or comes for next."""
        self._here: set[int] = set()
        self._side = halves(setting.nodes, setting.scenario.seed)
        self._cut: tuple[int, float] | None = None
        """The round in which the graph was cut, and when that must end."""
        self._stuck: set[tuple[int, int]] = set()
        """Spans that stood still until their time was up."""
        self._clock = 0
        self._found: set[tuple[str, str]] = set()
        self._edges = {(a, b) for x, y in consortium.plan.links for a, b in ((x, y), (y, x))}
        kinds = (kind for key in self._faults.requested for kind in KINDS[key])
        self._counts = Counter(dict.fromkeys(kinds, 0))
        self._sent = 0
        self._killed: set[str] = set()

    def begin(self) -> None:
        """Start everybody who is there from the first round on."""
        first = [node for node, stays in enumerate(self._stays) if stays and stays[0].first == 1]
        self._start(first)

    def __call__(self, sights: Mapping[str, Sight]) -> bool:
        """Do what is due; whether somebody is still to come or to go, or a cut to end."""
        clock = self.clock(sights)
        self._go(sights)
        self._come(clock)
        if self._faults.partition and self._spaces is not None:
            self._partition(clock, self._spaces)
        for name, sight in sights.items():
            self._found |= {(name, other) for other in sight.neighbours} - self._edges
        awaited = any(
            node not in self._here and self._stay[node] < len(stays)
            for node, stays in enumerate(self._stays)
        )
        return awaited or self._cut is not None

    def clock(self, sights: Mapping[str, Sight]) -> int:
        """The middle one of the rounds reached so far; beyond the last one when all are done."""
        seen = {node: sights.get(name_of(node), _UNSEEN) for node in self._here}
        learning = [
            self._timetable.number_of(node, sight.round)
            for node, sight in seen.items()
            if sight.phase not in ("idle", "starting")
        ]
        if learning:
            self._clock = max(self._clock, int(median(learning)))
        elif all(sight.phase == "idle" for sight in seen.values()):
            self._clock = self._timetable.rounds + 1
        return self._clock

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of fault happened."""
        if "heal" in self._counts:
            self._counts["heal"] = len(self._found)
        return dict(self._counts)

    @property
    def killed(self) -> frozenset[str]:
        """Who did not heed the request to stop."""
        return frozenset(self._killed)

    @property
    def bytes_sent(self) -> int:
        """Written to sockets by all processes so far."""
        return self._sent + sum(
            self._consortium.daemons[name_of(node)].sight.bytes_sent for node in self._here
        )

    def _go(self, sights: Mapping[str, Sight]) -> None:
        for node in sorted(self._here):
            stay, name = self._stays[node][self._stay[node]], name_of(node)
            due = self._timetable.own_until(node, stay.last)
            if stay.last == self._timetable.rounds or sights.get(name, _UNSEEN).round < due:
                continue
            self._consortium.daemons[name].look()
            self._sent += self._consortium.daemons[name].sight.bytes_sent
            if not self._consortium.dismiss(name):
                self._killed.add(name)
            self._here.discard(node)
            self._stay[node] += 1
            self._counts["churn"] += 1

    def _come(self, clock: int) -> None:
        due = [
            node
            for node, stays in enumerate(self._stays)
            if node not in self._here
            and self._stay[node] < len(stays)
            and clock >= stays[self._stay[node]].first - 1
        ]
        self._start(due)
        for node in due:
            if self._stay[node] > 0:
                self._counts["returns"] += 1
            elif self._timetable.late[node]:
                self._counts["late"] += 1

    def _start(self, nodes: list[int]) -> None:
        self._consortium.start(only={name_of(node) for node in nodes})
        self._here.update(nodes)

    def _partition(self, clock: int, spaces: Namespaces) -> None:
        spans = [span for span in self._faults.partition if span not in self._stuck]
        under = next((span for span in spans if span[0] <= clock <= span[1]), None)
        cut = under is not None
        if cut and self._cut is None:
            spaces.cut(self._side)
            # Where the halves stand still, no clock ends the cut.
            longest = max(last - first + 1 for first, last in self._faults.partition)
            limit_s = longest * (self._consortium.plan.patience_s + 10.0)
            self._cut = clock, time.monotonic() + limit_s
        elif self._cut is not None and (not cut or time.monotonic() > self._cut[1]):
            spaces.join()
            links = self._setting.graphs.at(1)
            crossing = int((self._side[links.receiver] != self._side[links.sender]).sum())
            last = min(clock - 1, self._timetable.rounds)
            self._counts["partition"] += crossing * max(1, last - self._cut[0] + 1)
            self._cut = None
            if under is not None:
                self._stuck.add(under)  # it stood still until its time was up: once is enough
