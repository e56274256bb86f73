"""Pooled: one model trained on everybody's rows, which no consortium may have; a reference.

Nothing is exchanged. Who runs the rounds sees it among the rules that are `POOLING`, trains that
one model and hands it out as everybody's `trained`; this rule lets it pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.exchange import Mixed

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange, RuleSetting


class Pooled:
    """The model that was handed out, as it is."""

    def mix(self, exchange: Exchange) -> Mixed:
        """No link has a weight."""
        return Mixed(exchange.trained.clone(), None)


def build(_setting: RuleSetting) -> Pooled:
    """The rule; it remembers nothing."""
    return Pooled()
