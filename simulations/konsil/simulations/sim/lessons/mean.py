"""The plain mean of answers: everybody listens to all neighbours with Metropolis weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.lessons.lesson import plainly

if TYPE_CHECKING:
    from konsil.simulations.sim.lessons.lesson import Learned, Lesson


class Mean:
    """Every link gets its full weight."""

    def learn(self, lesson: Lesson) -> Learned:
        """See `Rule`."""
        return plainly(lesson, lesson.routes.metropolis_e9)


def build(_nodes: int) -> Mean:
    """The rule; it remembers nothing."""
    return Mean()
