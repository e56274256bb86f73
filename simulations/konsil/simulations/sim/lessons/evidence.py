"""Evidence-gated trust in answers: the daemon's rule, for all nodes at once.

As `konsil.simulations.sim.rules.evidence`, with another point and another trial (docs/adr/0014):
distances are between probabilities, and a trial is a model that learned a part of the way.
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
    from collections.abc import Callable

    from torch import Tensor

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
        gain, error = _trials(lesson, here[receiver], seen, reach, rho[receiver])
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

        def weights_at(step: Integers) -> Integers:
            return evidence.weigh(measures, scale, tau[receiver], step[receiver]).w_e9

        models, step = integrated(lesson, weights_at, _guard(lesson))
        weighed = evidence.weigh(measures, scale, tau[receiver], step[receiver])
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


def _trials(
    lesson: Lesson, here: Tensor, seen: Tensor, reach: Integers, rho: Integers
) -> tuple[Integers, Integers]:
    """What learning for a moment from each link alone gains, and the error of that, in 1e-9; a
    lesson goes from where its receiver stands, `here`, to what it has `seen` (links, m, C)."""
    way = np.where(reach > 0, np.minimum(1.0, rho / np.maximum(reach, 1)), 0.0)
    targets = here + torch.from_numpy(way)[:, None, None] * (seen - here)
    found = lesson.students.trials(lesson.before, lesson.links.receiver, targets)
    gain, error = (many_to_e9(one.numpy()) for one in found)
    return gain, error


def build(nodes: int) -> Evidence:
    """The rule for a run; it remembers nobody yet."""
    return Evidence(nodes)
