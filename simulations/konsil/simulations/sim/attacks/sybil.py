"""Sybils: every Byzantine node sends one and the same forged model, byte for byte.

The model is the sign flip of the lowest of them. What else Sybils would do, praise one another
and smear honest nodes, needs opinions that are passed on; no rule here takes any yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.sign_flip import STRENGTH, flipped
from konsil.simulations.sim.attacks.view import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View


def repeated(view: View) -> Tensor:
    """(b, p): one model, b times."""
    return flipped(view)[:1].repeat(len(view.hostile), 1)


ATTACK = Attack(release=repeated, strength=STRENGTH)
