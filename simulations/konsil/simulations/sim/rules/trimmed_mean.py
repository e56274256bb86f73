"""The trimmed mean of each coordinate over the closed neighbourhood (Yin et al. 2018).

With f liars told, the f smallest and the f largest values are left out; at least one stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.neighbourhoods import neighbourhoods
from konsil.simulations.sim.rules.ordering import ascending
from konsil.simulations.sim.rules.told import liars

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange, RuleSetting


def trimmed(candidates: Tensor, cut: int) -> Tensor:
    """(b, p): the mean of (c, b, p) without `cut` values at either end. Writes into its input.

    Where nothing would stay, the cut is the largest that leaves one value or two.
    """
    cut = min(cut, (len(candidates) - 1) // 2)
    if cut == 0:
        return candidates.mean(0)
    kept = ascending(candidates)[cut : len(candidates) - cut]
    total = kept[0]
    for row in kept[1:]:
        total += row
    return total / len(kept)


class TrimmedMean:
    """The coordinate-wise trimmed mean of the own model and all received."""

    def mix(self, exchange: Exchange) -> Mixed:
        """No link has a weight."""
        models = torch.empty_like(exchange.trained)
        for block in neighbourhoods(exchange, liars(exchange)):
            models.index_copy_(0, block.receivers, trimmed(block.candidates, block.liars))
        return Mixed(models, None)


def build(_setting: RuleSetting) -> TrimmedMean:
    """The rule; it remembers nothing."""
    return TrimmedMean()
