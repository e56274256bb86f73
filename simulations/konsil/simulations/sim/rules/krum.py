"""Krum (Blanchard et al. 2017): the one candidate that has the closest company.

Of c candidates with f liars told, each scores the sum of its squared distances from its
c − f − 2 nearest others, from one at least; the lowest score is the new model. With many liars
only one other counts, and the two that are closest to one another score the same: of equals
the nearest to the own model is taken, so that no node is preferred for its number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.distances import squared
from konsil.simulations.sim.rules.neighbourhoods import neighbourhoods
from konsil.simulations.sim.rules.told import liars

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange, RuleSetting

ROUNDING = 1e-5
"""Scores that differ by no more than this share of themselves are equal."""


def closest(apart: Tensor, told: int) -> Tensor:
    """(b): which of c candidates each node takes, by their squared distances (b, c, c)."""
    count = apart.shape[1]
    company = max(count - told - 2, 1)
    nearest = apart.sort(dim=2).values[:, :, 1 : 1 + company]
    scores = nearest.sum(dim=2)
    best = scores.min(dim=1, keepdim=True).values
    equal = scores <= best * (1 + ROUNDING)
    return torch.where(equal, apart[:, 0], torch.inf).argmin(dim=1)


class Krum:
    """One of the own model and all received."""

    def mix(self, exchange: Exchange) -> Mixed:
        """No link has a weight."""
        models = torch.empty_like(exchange.trained)
        for block in neighbourhoods(exchange, liars(exchange)):
            chosen = closest(squared(block.candidates), block.liars)
            many = len(chosen)
            rows = chosen * many + torch.arange(many, device=chosen.device)
            taken = block.candidates.flatten(0, 1).index_select(0, rows)
            models.index_copy_(0, block.receivers, taken)
        return Mixed(models, None)


def build(_setting: RuleSetting) -> Krum:
    """The rule; it remembers nothing."""
    return Krum()
