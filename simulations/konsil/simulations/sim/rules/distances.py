"""Distances between models: of each link, and of all candidates of a node from one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange

LINKS_AT_ONCE = 64
"""Links whose models are looked at together, so that they stay in a cache."""


def of_links(exchange: Exchange) -> Tensor:
    """(links): ‖x_j − x_i‖ of each received model from its receiver's own trained one."""
    source, receiver = exchange.routes.sources, exchange.routes.receivers
    found = exchange.trained.new_empty(len(source))
    for first in range(0, len(source), LINKS_AT_ONCE):
        some = slice(first, first + LINKS_AT_ONCE)
        apart = exchange.table.index_select(0, source[some])
        apart -= exchange.trained.index_select(0, receiver[some])
        torch.linalg.vector_norm(apart, dim=1, out=found[some])
    return found


def squared(candidates: Tensor) -> Tensor:
    """(b, c, c): squared distances of the c candidates (c, b, p) of b nodes, as float64.

    They come from products of whole models, and in float32 those would lose the small
    differences of models that lie far from the origin, or from one outlier.
    """
    rows = candidates.transpose(0, 1).double()
    products = rows @ rows.transpose(1, 2)
    lengths = products.diagonal(dim1=1, dim2=2)
    apart = lengths.unsqueeze(1) + lengths.unsqueeze(2) - 2 * products
    return apart.clamp_(min=0)
