"""Optimal IPM: inner-product manipulation as hard as it can be without standing out.

The update −ε ū, with ū the mean honest update, moves the mean of all by a share of
(1 + ε)·‖ū‖ away from ū: the larger ε, the more harm. It lies (1 + ε)·‖ū‖ from ū itself, and
may lie no farther from it than the farthest honest update does. Where harm only grows, the
search for the worst ε on that line ends at its end, which is known without searching:
ε = max ‖u_i − ū‖ / ‖ū‖ − 1. It is below 0 where honest updates agree more than they move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View


def largest(updates: Tensor) -> float:
    """The ε of these honest updates (h, p); −1, no update at all, where their mean is 0."""
    mean = updates.mean(0)
    length = float(mean.norm())
    return float((updates - mean).norm(dim=1).max()) / length - 1 if length else -1.0


def manipulated(view: View) -> Tensor:
    """(b, p): each Byzantine node's a, moved against the mean honest update."""
    updates = view.updates(view.honest)
    return rows(view.before, view.hostile) - largest(updates) * updates.mean(0)


ATTACK = Attack(release=manipulated)
