"""On and off: five rounds of honest work earn trust, five rounds of sign flip spend it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.sign_flip import STRENGTH, flipped
from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

BLOCK = 5
"""Rounds of each kind in a row; the first ones are honest."""


def in_turn(view: View) -> Tensor:
    """(b, p): x in the rounds 1 to 5, the flipped step in 6 to 10, and so on."""
    if (view.number - 1) // BLOCK % 2:
        return flipped(view)
    return rows(view.trained, view.hostile)


ATTACK = Attack(release=in_turn, strength=STRENGTH)
