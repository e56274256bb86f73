"""Mixing as a sparse product: each receiver's weighted sum of the rows that its links bring.

The sum is torch's embedding bag, whose bags are the receivers and whose words are the rows: no
row is copied before it is added. On one core it took 0.7 of the time of a product with a CSR
matrix and 0.1 of that of `index_add_` (64 nodes × 2 410 elements, degree 4). Where the own model
lies in the table it is one more row of the sum, which saves another pass over all models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange
    from konsil.simulations.sim.links import Links, Nodes


def mixed(exchange: Exchange, weights: Tensor) -> Tensor:
    """(n, p): x_i + Σ_j w_ij (x_j − x_i); `weights` are those of the links.

    Law: weight that is not given to a link stays with the receiver's own model.
    """
    routes = exchange.routes
    plain = weights is routes.metropolis
    own = routes.kept if plain else 1 - routes.totals(weights)
    if exchange.table is exchange.trained:
        rows, starts, places = routes.closed
        closed = routes.closed_metropolis if plain else torch.cat([own, weights])[places]
        return _summed(exchange.table, rows, starts, closed)
    models = _summed(exchange.table, routes.sources, routes.starts, weights)
    return models.addcmul_(exchange.trained, own.unsqueeze(1))


def summed(table: Tensor, source: Nodes, links: Links, weights: Tensor) -> Tensor:
    """(n, p): Σ_e weights[e] · table[source[e]] over each receiver's links e."""
    rows, starts = (torch.from_numpy(one).to(table.device) for one in (source, links.starts))
    return _summed(table, rows, starts, weights)


def _summed(table: Tensor, rows: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    """(n, p): Σ_e weights[e] · table[rows[e]], over e from one start to the next."""
    return torch.embedding_bag(
        table, rows, starts, mode=0, per_sample_weights=weights, include_last_offset=True
    )[0]
