"""Lesson: what every node of a round answered and heard, ready to be learned from.

Sheet `source[e]` of the table comes over link e. A rule says with which weights each receiver
listens; `integrated` then teaches all receivers at once, and shortens the step of those whose
private loss does not allow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from konsil.simulations.sim.lessons.students import replaced
from konsil.trust import integrate
from konsil.trust.fixed import UNIT_E9, many_to_e9, product

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from konsil.simulations.sim.lessons.sheets import Sheets
    from konsil.simulations.sim.lessons.students import Models, Students
    from konsil.simulations.sim.links import Links, Nodes
    from konsil.simulations.sim.routes import Routes
    from konsil.simulations.sim.rules.evidence import Judgement
    from konsil.trust.fixed import Integers, Truths


@dataclass(frozen=True)
class Lesson:
    """One round of n nodes that answer a question of m rows in C classes."""

    number: int
    """The round, from 1."""
    students: Students
    before: Models
    """The models before this round's training."""
    trained: Models
    """Those after it."""
    own: Tensor
    """(n, m, C): what those answer, as logarithms of probabilities."""
    sheets: Sheets
    """Under way."""
    copied: Truths
    """(links): brings a sheet that another link of its receiver brings too, and later than that."""
    routes: Routes
    lag: Nodes
    hostile: frozenset[int]
    """Who is Byzantine. Only the rule `oracle` may look."""
    weak: bool
    """Answers are weak labels: a student is kept only if it is better than before."""

    @property
    def links(self) -> Links:
        """Who hears whom."""
        return self.routes.links


@dataclass(frozen=True)
class Learned:
    """What a rule made of a lesson."""

    models: Models
    granted: Tensor
    """w / W of each link, in [0, 1]."""
    judgement: Judgement | None = None
    """How each link was weighed, by a rule that judges."""


class Rule(Protocol):
    """A way to listen; may remember earlier rounds, and is made anew for each run."""

    def learn(self, lesson: Lesson) -> Learned:
        """The models after this round's lesson."""
        ...


def plainly(lesson: Lesson, w_e9: Integers) -> Learned:
    """Everybody listens with these weights (links), and nobody judges.

    Students of weak labels are kept only if they are better, all the same.
    """
    accepted = better(lesson) if lesson.weak else None
    receiver = lesson.links.receiver
    everyone = torch.ones(len(w_e9), 1, dtype=torch.float64)
    models, step = integrated(
        lesson, lambda step: product(w_e9, step[receiver]), accepted, everyone
    )
    whole = np.maximum(lesson.routes.metropolis_e9, 1)
    return Learned(models, torch.from_numpy(product(w_e9, step[receiver]) / whole))


def integrated(
    lesson: Lesson,
    weights_at: Callable[[Integers], Integers],
    accepted: Callable[[Integers, Nodes], Truths] | None,
    loud: Tensor,
) -> tuple[Models, Integers]:
    """The models at the largest step that each node accepts, and these steps (n) in 1e-9.

    `weights_at` gives the weights (links) for steps (n); `accepted` tells by private losses (s)
    of nodes (s) which of them keep what they learned; `loud` (links, C) is how far each sender
    is heard in each class. Nodes without any weight do not change.
    """
    models, links = lesson.trained, lesson.links
    step = np.full(links.nodes, integrate.STEPS_E9[0])
    trying = np.arange(links.nodes)
    for attempt in integrate.STEPS_E9:
        step[trying] = attempt
        if attempt == 0:
            return replaced(models, lesson.trained, trying, lesson.students.setting), step
        w_e9 = weights_at(step)
        heard = np.unique(links.receiver[w_e9 > 0])
        trying = np.intersect1d(trying, heard)
        if len(trying) == 0:
            break
        models = lesson.students.taught(
            models,
            trying,
            _targets(lesson, w_e9, trying, loud),
            lesson.number,
            start=lesson.trained,
        )
        if accepted is None:
            break
        fine = accepted(losses_e9(lesson, models, trying), trying)
        trying = trying[~fine]
        if len(trying) == 0:
            break
    return models, step


def better(lesson: Lesson) -> Callable[[Integers, Nodes], Truths]:
    """Is a student better than the trained model that it began as?"""
    everyone = np.arange(lesson.links.nodes)
    before = losses_e9(lesson, lesson.trained, everyone)
    return lambda after, nodes: after < before[nodes]


def losses_e9(lesson: Lesson, models: Models, nodes: Nodes) -> Integers:
    """The private losses of these nodes' models."""
    return many_to_e9(lesson.students.losses(models, nodes).numpy())


def _targets(lesson: Lesson, w_e9: Integers, nodes: Nodes, loud: Tensor) -> Tensor:
    """(s, m, C): what each of these nodes shall learn, by the weights of all links."""
    links, source, found = lesson.links, lesson.routes.source, []
    starts = links.starts
    for node in nodes.tolist():
        mine = np.arange(starts[node], starts[node + 1])
        mine = mine[w_e9[mine] > 0]
        kept = UNIT_E9 - int(w_e9[mine].sum())
        found.append(
            lesson.sheets.fused(
                lesson.own[node],
                node,
                kept,
                source[mine],
                links.sender[mine],
                w_e9[mine],
                loud[torch.from_numpy(mine)],
            )
        )
    return torch.stack(found)
