"""The plain gossip mean over the closed neighbourhood, with Metropolis weights.

Law: where weights are the same in both directions and everything arrives, the average over all
nodes does not change. What did not arrive leaves its weight with the own model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.product import mixed

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange, RuleSetting


class Mean:
    """x_i + Σ W_ij (x_j − x_i)."""

    def mix(self, exchange: Exchange) -> Mixed:
        """Every link gets its full weight."""
        routes = exchange.routes
        return Mixed(mixed(exchange, routes.metropolis), routes.everything)


def build(_setting: RuleSetting) -> Mean:
    """The rule; it remembers nothing."""
    return Mean()
