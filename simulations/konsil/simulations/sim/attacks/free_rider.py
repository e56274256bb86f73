"""Free rider: the model of before the round, a; nothing learned and nothing given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View


def unchanged(view: View) -> Tensor:
    """(b, p): a of each Byzantine node."""
    return rows(view.before, view.hostile)


ATTACK = Attack(release=unchanged)
