"""Local only: nobody is listened to. The floor that every other rule is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.exchange import Mixed

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange, RuleSetting


class LocalOnly:
    """The own trained model, as it is."""

    def mix(self, exchange: Exchange) -> Mixed:
        """No link is granted anything."""
        nothing = exchange.trained.new_zeros(len(exchange.links))
        return Mixed(exchange.trained.clone(), nothing)


def build(_setting: RuleSetting) -> LocalOnly:
    """The rule; it remembers nothing."""
    return LocalOnly()
