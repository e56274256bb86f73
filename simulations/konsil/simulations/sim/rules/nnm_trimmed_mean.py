"""Nearest-neighbour mixing, then the trimmed mean (Allouah et al. 2023).

Of c candidates with f liars told, each is first replaced by the mean of its c − f nearest,
itself among them; the trimmed mean of those is the new model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.distances import squared
from konsil.simulations.sim.rules.neighbourhoods import neighbourhoods
from konsil.simulations.sim.rules.told import liars
from konsil.simulations.sim.rules.trimmed_mean import trimmed

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange, RuleSetting


def mixed_with_nearest(candidates: Tensor, told: int) -> Tensor:
    """(c, b, p): each candidate's mean with its nearest; at least it and half of the others."""
    count = len(candidates)
    kept = count - min(told, (count - 1) // 2)
    nearest = squared(candidates).topk(kept, dim=2, largest=False).indices
    rows = candidates.transpose(0, 1)
    weights = rows.new_zeros(len(rows), count, count).scatter_(2, nearest, 1 / kept)
    return (weights @ rows).transpose(0, 1).contiguous()


class NearestThenTrimmed:
    """The trimmed mean of what nearest-neighbour mixing made of all candidates."""

    def mix(self, exchange: Exchange) -> Mixed:
        """No link has a weight."""
        models = torch.empty_like(exchange.trained)
        for block in neighbourhoods(exchange, liars(exchange)):
            calmed = mixed_with_nearest(block.candidates, block.liars)
            models.index_copy_(0, block.receivers, trimmed(calmed, block.liars))
        return Mixed(models, None)


def build(_setting: RuleSetting) -> NearestThenTrimmed:
    """The rule; it remembers nothing."""
    return NearestThenTrimmed()
