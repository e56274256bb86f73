"""The floor: nobody listens, so that models are what each node learned alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.lessons.lesson import Learned

if TYPE_CHECKING:
    from konsil.simulations.sim.lessons.lesson import Lesson


class LocalOnly:
    """No link gets any weight."""

    def learn(self, lesson: Lesson) -> Learned:
        """See `Rule`."""
        return Learned(lesson.trained, torch.zeros(len(lesson.links)))


def build(_nodes: int) -> LocalOnly:
    """The rule; it remembers nothing."""
    return LocalOnly()
