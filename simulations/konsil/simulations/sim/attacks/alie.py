"""A little is enough (Baruch et al. 2019): a + mean − z·deviation of honest updates.

Every coordinate stays within z deviations of the mean, where many honest values lie too. z is
1.5 at first; the deviation is that of the honest updates themselves, not of a sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

STRENGTH = 1.5
"""z."""


def shifted(view: View) -> Tensor:
    """(b, p): each Byzantine node's a, with the shifted mean update."""
    updates = view.updates(view.honest)
    step = updates.mean(0) - view.strength_or(STRENGTH) * updates.std(0, correction=0)
    return rows(view.before, view.hostile) + step


ATTACK = Attack(release=shifted, strength=STRENGTH)
