"""Evidence-gated trust in answers: the daemon's rule, for all nodes at once.

As `konsil.simulations.sim.rules.evidence`, with another point and another gain (docs/adr/0014,
0017): distances are between probabilities, and teachers are judged by how far their answers agree.
All that follows from these measurements is `konsil.trust`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.simulations.sim.lessons.lesson import Learned, better, integrated, losses_e9
from konsil.simulations.sim.lessons.sheets import logarithms
from konsil.simulations.sim.rules.evidence import Judgement, Tables
from konsil.simulations.sim.rules.memory import Memory
from konsil.trust import evidence, integrate, medians, score, weights
from konsil.trust.fixed import UNIT_E9, many_to_e9

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from konsil.knowledge.teaching.hearing import Heard
    from konsil.simulations.sim.lessons.lesson import Lesson
    from konsil.simulations.sim.links import Nodes
    from konsil.trust.fixed import Integers, Truths


class Evidence:
    """Steps 1 to 7 of the rule, with the memory of step 4."""

    def __init__(self, nodes: int) -> None:
        self._memory = Memory(nodes)

    def learn(self, lesson: Lesson) -> Learned:
        """See `Rule`; what was judged is remembered."""
        links, table = lesson.links, Tables.of(lesson.routes)
        receiver = links.receiver
        r, s = self._memory.of(links)
        old = logarithms(lesson.students.sheets(lesson.before))
        here, there = old.exp(), lesson.own.exp()
        said = (lesson.routes.source, links.sender)
        seen = lesson.sheets.spoken(*said, here[receiver])
        distance = _apart(lesson.sheets.spoken(*said, there[receiver]), there[receiver])
        reach, own = _apart(seen, here[receiver]), _apart(there, here)
        share = np.where(lesson.copied, 0, UNIT_E9)
        trust, kept = table.of_links(score.mean(r, s)), table.of_links(share)
        heard = medians.voices(trust, kept, table.present)
        tau, rho = medians.bounds(table.of_links(distance), table.of_links(reach), own, heard)
        hearing = _Hearing(lesson)
        gain, error = hearing.gains(weights.gate(score.mean(r, s)))
        gains, errors = table.of_links(gain), table.of_links(error)
        scale = table.to_links(medians.gain_scales(gains, errors, heard))
        measures = evidence.Measures(
            lag=lesson.lag,
            own_e9=own[receiver],
            g_e9=gain,
            excused_e9=table.to_links(medians.excuses(gains, errors, heard)),
            d_e9=distance,
            r_e9=r,
            s_e9=s,
            base_rate_e9=np.full_like(r, score.NEUTRAL_E9),
            share_e9=share,
            metropolis_e9=weights.shared_out(
                lesson.routes.metropolis_e9, lesson.routes.degrees[receiver]
            ),
            pinned_e9=np.full_like(r, evidence.UNPINNED),
        )

        def weighed_at(step: Integers) -> evidence.Weighed[Integers]:
            return evidence.weigh(measures, scale, tau[receiver], step[receiver])

        whole = weighed_at(np.full(links.nodes, UNIT_E9))
        loud = hearing.lesson(weights.gate(whole.trust_e9), whole.w_e9)
        models, step = integrated(lesson, lambda at: weighed_at(at).w_e9, _guard(lesson), loud)
        weighed = weighed_at(step)
        self._memory.keep(links, weighed.r_after_e9, weighed.s_after_e9)
        granted = weighed.w_e9 / np.maximum(lesson.routes.metropolis_e9, 1)
        judgement = Judgement(
            measures, reach, error, rho[receiver], tau[receiver], scale, step[receiver], weighed
        )
        return Learned(models, torch.from_numpy(granted), judgement)


def _guard(lesson: Lesson) -> Callable[[Integers, Nodes], Truths]:
    """A student must be better than it was; whoever else learns may lose a little."""
    if lesson.weak:
        return better(lesson)
    before = losses_e9(lesson, lesson.before, np.arange(lesson.links.nodes))
    return lambda after, nodes: integrate.acceptable(before[nodes], after)


def _apart(one: Tensor, other: Tensor) -> Integers:
    """The distances (k) in 1e-9 between points (k, m, C)."""
    return many_to_e9((one - other).flatten(1).norm(dim=1).numpy())


class _Hearing:
    """What the answers of a round show to each receiver that is a witness of its own rows."""

    def __init__(self, lesson: Lesson) -> None:
        self._lesson = lesson
        knows = lesson.sheets.knows
        self._known = knows & lesson.students.witnesses(lesson.trained, knows)[:, None]

    def gains(self, trusts_e9: Integers) -> tuple[Integers, Integers]:
        """How far each link's answers agree beyond what is asked, and the error of that, in 1e-9;
        `trusts_e9` (links) is how far each sender was believed before."""
        gain, error = np.zeros((2, len(trusts_e9)))
        for links, found in self._heard(np.ones(len(trusts_e9), dtype=bool), trusts_e9):
            gain[links], error[links] = found.gains.numpy(), found.errors.numpy()
        return many_to_e9(gain), many_to_e9(error)

    def lesson(self, trusts_e9: Integers, w_e9: Integers) -> Tensor:
        """(links, C): how loud those with a weight are in a lesson, by the trusts of now."""
        loud = torch.zeros(len(trusts_e9), len(self._lesson.sheets.classes), dtype=torch.float64)
        for links, found in self._heard(w_e9 > 0, trusts_e9):
            loud[torch.from_numpy(links)] = found.lesson
        return loud

    def _heard(self, chosen: Truths, trusts_e9: Integers) -> Iterator[tuple[Nodes, Heard]]:
        """For each receiver the chosen of its links, and what these show together."""
        lesson, links = self._lesson, self._lesson.links
        for node in range(links.nodes):
            mine = np.arange(links.starts[node], links.starts[node + 1])
            mine = mine[chosen[mine]]
            if len(mine):
                yield mine, lesson.sheets.heard(
                    lesson.own[node], self._known[node], lesson.routes.source[mine],
                    links.sender[mine], trusts_e9[mine],
                )  # fmt: skip


def build(nodes: int) -> Evidence:
    """The rule for a run; it remembers nobody yet."""
    return Evidence(nodes)
