"""The median of each coordinate over the closed neighbourhood (Yin et al. 2018).

Of an even number of candidates it is the mean of the two in the middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.neighbourhoods import neighbourhoods
from konsil.simulations.sim.rules.ordering import ascending

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange, RuleSetting


class Median:
    """The coordinate-wise median of the own model and all received."""

    def mix(self, exchange: Exchange) -> Mixed:
        """No link has a weight."""
        models = torch.empty_like(exchange.trained)
        for block in neighbourhoods(exchange):
            rows = ascending(block.candidates)
            low, high = rows[(len(rows) - 1) // 2], rows[len(rows) // 2]
            middle = low if len(rows) % 2 else low.lerp(high, 0.5)
            models.index_copy_(0, block.receivers, middle)
        return Mixed(models, None)


def build(_setting: RuleSetting) -> Median:
    """The rule; it remembers nothing."""
    return Median()
