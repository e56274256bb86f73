"""Sign flip: the own step turned round and made longer, a − s·(x − a); s is 5 at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

STRENGTH = 5.0
"""How much longer than the honest step the hostile one is."""


def flipped(view: View) -> Tensor:
    """(b, p): a − s·u of each Byzantine node."""
    step = view.updates(view.hostile)
    return rows(view.before, view.hostile) - view.strength_or(STRENGTH) * step


ATTACK = Attack(release=flipped, strength=STRENGTH)
