"""Min-max and min-sum (Shejwalkar and Houmansadr 2021): as far off as honest spread allows.

The update is ū + γ·s, with ū the mean of the honest updates u_i, and the largest γ for which

- min-max: no honest update is farther from it than the two farthest honest ones are apart;
- min-sum: its squared distances to all honest updates add up to no more than those of the
  honest update for which that sum is largest.

The paper names three directions s. Min-max takes −ū / ‖ū‖ here and min-sum −sign(ū): along
the third, the deviation of each coordinate, both did hardly any harm on digits, and min-sum
along −ū is optimal IPM once more. The paper bisects; both bounds are quadratic in γ, so the
end is their root. With many nodes the farthest pair is looked for among the `WATCHED` updates
farthest from the mean: a pair that is missed makes γ smaller, and the bound still holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

WATCHED = 512
"""Honest updates among which the farthest pair is looked for."""


def widest(offsets: Tensor) -> float:
    """The largest distance between two of the updates, given from their mean (h, p)."""
    import torch

    lengths = offsets.norm(dim=1)
    far = offsets[lengths.topk(min(WATCHED, len(offsets))).indices]
    return max(float(torch.cdist(far, far).max()), float(lengths.max()))


def gap_of_maximum(offsets: Tensor, direction: Tensor) -> float:
    """The largest γ for which ‖γ·direction − offset‖ is at most `widest` for every offset."""
    square = float(direction.square().sum())
    if square == 0:
        return 0.0
    along = (offsets @ direction).double()
    room = widest(offsets) ** 2 - offsets.square().sum(1).double()
    roots = (along + (along.square() + square * room).clamp(min=0).sqrt()) / square
    return float(roots.min())


def gap_of_sum(offsets: Tensor, direction: Tensor) -> float:
    """The largest γ for which the sum of squares is at most the largest honest one.

    Offsets from the mean add up to 0, so the sum from any point is their own sum of squares
    and h times the square of that point's length.
    """
    length = float(direction.norm())
    return float(offsets.norm(dim=1).max()) / length if length else 0.0


def _min_max(view: View) -> Tensor:
    updates = view.updates(view.honest)
    mean = updates.mean(0)
    direction = mean.div(-mean.norm().clamp(min=1e-12))
    step = mean + gap_of_maximum(updates - mean, direction) * direction
    return rows(view.before, view.hostile) + step


def _min_sum(view: View) -> Tensor:
    updates = view.updates(view.honest)
    mean = updates.mean(0)
    direction = mean.sign().neg_()
    step = mean + gap_of_sum(updates - mean, direction) * direction
    return rows(view.before, view.hostile) + step


MIN_MAX = Attack(release=_min_max)
MIN_SUM = Attack(release=_min_sum)
