"""Inner-product manipulation (Xie, Koyejo and Gupta 2020): a − ε·mean of honest updates.

A small ε hides among honest steps and still turns the mean step back. ε is 1.5 at first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

STRENGTH = 1.5
"""ε."""


def manipulated(view: View) -> Tensor:
    """(b, p): each Byzantine node's a, moved against the mean honest update."""
    mean = view.updates(view.honest).mean(0)
    return rows(view.before, view.hostile) - view.strength_or(STRENGTH) * mean


ATTACK = Attack(release=manipulated, strength=STRENGTH)
