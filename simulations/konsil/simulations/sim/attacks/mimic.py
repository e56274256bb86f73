"""Mimic (Karimireddy, He and Jaggi 2022): all repeat one honest node's update.

Nothing looks wrong, but that node counts many times and the others fade. The victim is the
honest node with the lowest number and stays the same in every round; the paper's warm-up,
which looks for the worst victim, is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View


def repeated(view: View) -> Tensor:
    """(b, p): each Byzantine node's a, with the victim's update."""
    return rows(view.before, view.hostile) + view.updates(view.honest[:1])


ATTACK = Attack(release=repeated)
