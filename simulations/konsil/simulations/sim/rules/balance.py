"""BALANCE (Fang et al., CCS 2024): take only those who are near, and nearer as time goes on.

Round t of T accepts j where ‖x_i − x_j‖ ≤ γ e^(−κ t / T) ‖x_i‖, and the new model is
α x_i + (1 − α) times the plain mean of the accepted; the own model where there are none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.distances import of_links
from konsil.simulations.sim.rules.product import mixed

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange, RuleSetting


@dataclass(frozen=True)
class Balance:
    """Acceptance by distance, with the paper's constants."""

    rounds: int
    """T, the rounds of the run."""
    own: float = 0.5
    """α, the weight of the own model."""
    reach: float = 0.3
    """γ, the share of the own model's length that another may lie away at the start."""
    decay: float = 1.0
    """κ, how fast that share falls."""

    def mix(self, exchange: Exchange) -> Mixed:
        """A link is granted its weight in the mean, by its Metropolis weight, and 1 at most."""
        receiver = exchange.routes.receivers
        length = torch.linalg.vector_norm(exchange.trained, dim=1)
        share = self.reach * math.exp(-self.decay * exchange.number / self.rounds)
        accepted = (of_links(exchange) <= share * length[receiver]).to(exchange.trained)
        count = exchange.routes.totals(accepted)[receiver].clamp_(min=1)
        weights = accepted * (1 - self.own) / count
        granted = (weights / exchange.routes.metropolis).clamp_(max=1)
        return Mixed(mixed(exchange, weights), granted, weights)


def build(setting: RuleSetting) -> Balance:
    """The rule for a run of that many rounds; it remembers nothing."""
    return Balance(setting.rounds)
