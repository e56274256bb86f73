"""The oracle: the gossip mean over honest senders only. No real node can know who they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.product import mixed
from konsil.simulations.sim.rules.told import lying

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange, RuleSetting


class Oracle:
    """x_i + Σ W_ij (x_j − x_i) over honest j; the weight of the others stays with x_i."""

    def mix(self, exchange: Exchange) -> Mixed:
        """A link is granted everything or, from a Byzantine sender, nothing."""
        granted = torch.from_numpy(~lying(exchange)).to(exchange.trained)
        return Mixed(mixed(exchange, exchange.routes.metropolis * granted), granted)


def build(_setting: RuleSetting) -> Oracle:
    """The rule; it remembers nothing."""
    return Oracle()
