"""Creep: every receiver is drawn back over its own progress, x_i − c (x_i − a_i).

With c = 1 it would get its own old model back, which is easily told; c is 2 at first, the own
step turned round. That lies nearer to the receiver than honest models do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

STRENGTH = 2.0
"""c."""


def undone(view: View) -> Tensor:
    """One row a hostile link: its receiver's model behind where it began."""
    receivers = view.links.receiver[view.hostile_links]
    step = view.updates(receivers)
    return rows(view.trained, receivers).sub_(step, alpha=view.strength_or(STRENGTH))


ATTACK = Attack(per_link=undone, strength=STRENGTH)
