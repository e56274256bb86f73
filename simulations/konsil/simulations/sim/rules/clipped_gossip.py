"""ClippedGossip (He, Karimireddy and Jaggi 2022): x_i + Σ W_ij clip(x_j − x_i, τ_i).

The paper's radius is τ_i = √( (1 / δ_i) Σ_{j honest} W_ij ‖x_j − x_i‖² ), where δ_i is the
weight of i's Byzantine neighbours. Nobody knows who is honest: with f liars told, all but the
f farthest neighbours stand for the honest ones, and δ_i is the weight of those f. Without
liars nothing is clipped. Law: a node moves by Σ W_ij τ_i at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.simulations.sim.exchange import Mixed
from konsil.simulations.sim.rules.distances import of_links
from konsil.simulations.sim.rules.product import mixed
from konsil.simulations.sim.rules.told import liars

if TYPE_CHECKING:
    import numpy.typing as npt

    from konsil.simulations.sim.exchange import Exchange, RuleSetting
    from konsil.simulations.sim.links import Links, Nodes

    Numbers = npt.NDArray[np.float64]


def radii(links: Links, weights: Numbers, distances: Numbers, told: Nodes) -> Numbers:
    """(n): τ of each receiver, infinite where it is told of no liar."""
    order = np.lexsort((distances, links.receiver))
    near = links.places < (links.degrees - told)[links.receiver]
    moved = weights[order] * np.where(near, distances[order] ** 2, 0)
    spread = np.bincount(links.receiver, moved, links.nodes)
    refused = np.bincount(links.receiver, np.where(near, 0, weights[order]), links.nodes)
    squares = np.full(links.nodes, np.inf)
    np.divide(spread, refused, out=squares, where=refused > 0)
    found: Numbers = np.sqrt(squares)
    return found


class ClippedGossip:
    """Every received model, drawn towards the own one as far as the radius demands."""

    def mix(self, exchange: Exchange) -> Mixed:
        """A link is granted the factor of its clip."""
        distances = of_links(exchange)
        weights = exchange.routes.metropolis
        radius = radii(
            exchange.links,
            weights.double().cpu().numpy(),
            distances.double().cpu().numpy(),
            liars(exchange),
        )
        limit = torch.from_numpy(radius[exchange.links.receiver]).to(distances)
        granted = torch.where(distances > limit, limit / distances, 1.0)
        return Mixed(mixed(exchange, weights * granted), granted)


def build(_setting: RuleSetting) -> ClippedGossip:
    """The rule; it remembers nothing."""
    return ClippedGossip()
