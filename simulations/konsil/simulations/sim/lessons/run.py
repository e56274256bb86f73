"""A run in which answers travel: train, answer, hear, judge, learn; round after round.

As `konsil.simulations.sim.engine.Run`, for nodes of any architecture, in one process. What a
Byzantine node answers comes from its attack, and it claims to have seen every class.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from konsil.protocol.errors import ConfigError, LocalProtocolError
from konsil.simulations.sim.lessons import RULES
from konsil.simulations.sim.lessons.lesson import Lesson
from konsil.simulations.sim.lessons.sheets import Sheets, logarithms
from konsil.simulations.sim.lessons.students import Students
from konsil.simulations.sim.post import Post
from konsil.simulations.sim.rules import SILENT
from konsil.simulations.sim.shard import whole_or_ranks
from konsil.simulations.sim.traffic import Traffic

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.lessons.students import Models
    from konsil.simulations.sim.links import Links, Nodes
    from konsil.simulations.sim.rules.evidence import Judgement
    from konsil.simulations.sim.setting import Setting
    from konsil.trust.fixed import Truths


class LessonRun:
    """The state of a run: the models of all nodes, and what was counted.

    Raises `ConfigError` where several processes share the run.
    """

    def __init__(self, setting: Setting, device: str) -> None:
        if setting.question is None:
            raise LocalProtocolError("a run with lessons needs a question")
        self.setting, self.device = setting, device
        self.shard = whole_or_ranks(setting.nodes)
        if self.shard.processes > 1:
            raise ConfigError(
                f"[artifacts] kinds: answers travel in one process, not in {self.shard.processes}",
                hint="run it without torchrun",
            )
        self.own = np.arange(setting.nodes)
        self._students = Students(setting, setting.question, device)
        self.stacked: Models = self._students.start()
        """For each architecture, the models of its nodes as they are now."""
        self.cpu_s = 0.0
        self.counts: dict[str, int] = {}
        self.sent_bytes = 0
        self.heard: Links | None = None
        """Links of the last round."""
        self.granted: Tensor | None = None
        """What the rule granted each of them."""
        self.judgement: Judgement | None = None
        """How it weighed each of them, where it judges."""
        self._rule = RULES[setting.scenario.trust.rule](setting.nodes)
        self._traffic = Traffic(setting, self.shard, "cpu")
        self._post = Post(setting)
        self._classes, self._seen = setting.question.classes, _seen(setting)

    def round(self, number: int) -> None:
        """One round of every node. Raises `TaskError` when training diverges."""
        condition = self._traffic.condition(number)
        self.counts = condition.counts
        if self.setting.scenario.population.drift > 0:
            self._students.see(number)
        clock, before = time.process_time(), self.stacked
        trained = self._students.trained(before, number, condition.active)
        answers = self._students.sheets(trained)
        self.cpu_s += time.process_time() - clock
        rows = answers.flatten(1).float()
        table, source = self._post.sent(number, condition, rows, rows)
        arrivals = self._traffic.arrivals(condition, source)
        if self.setting.scenario.trust.rule not in SILENT:
            self.sent_bytes += arrivals.messages * self._post.bytes
        clock = time.process_time()
        sheets = table.half().view(-1, *answers.shape[1:])
        lesson = Lesson(
            number=number,
            students=self._students,
            before=before,
            trained=trained,
            own=logarithms(answers),
            sheets=Sheets(logarithms(sheets), self._classes, self._seen),
            copied=_copied(sheets, arrivals.routes.links, arrivals.routes.source),
            routes=arrivals.routes,
            lag=arrivals.lag,
            hostile=frozenset(self.setting.hostile.tolist()),
            weak=self.setting.scenario.artifacts.kind == "weak_labels",
        )
        learned = self._rule.learn(lesson)
        self.cpu_s += time.process_time() - clock
        self.stacked, self.heard = learned.models, arrivals.routes.links
        self.granted, self.judgement = learned.granted, learned.judgement

    def close(self) -> None:
        """The last round is over; nothing is left open."""


def _seen(setting: Setting) -> tuple[tuple[str, ...], ...]:
    """By node, the classes of which it says that it has training rows."""
    assert setting.question is not None
    names, cohorts = setting.question.classes, setting.trained_on
    found = []
    for node, honest in enumerate(setting.honest):
        rows = int(cohorts.train_rows[node])
        there = set(cohorts.targets[node, :rows].tolist()) if honest else range(len(names))
        found.append(tuple(name for place, name in enumerate(names) if place in there))
    return tuple(found)


def _copied(sheets: Tensor, links: Links, source: Nodes) -> Truths:
    """Links that bring the sheet of another link to the same receiver; the first of them is the
    original."""
    marks: dict[bytes, int] = {}
    of_row = [marks.setdefault(sheet.numpy().tobytes(), row) for row, sheet in enumerate(sheets)]
    met: set[tuple[int, int]] = set()
    copied = np.zeros(len(links), dtype=bool)
    for place, (node, row) in enumerate(zip(links.receiver.tolist(), source.tolist(), strict=True)):
        copied[place] = (node, of_row[row]) in met
        met.add((node, of_row[row]))
    return copied
