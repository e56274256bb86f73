"""What a classical rule is told: how many of those whom each node hears are Byzantine.

The true number, or the nominal share of them in the network if that is more, rounded up. No
real node knows either; comparisons therefore favour the rules that are told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from konsil.simulations.sim.exchange import Exchange
    from konsil.simulations.sim.links import Mask, Nodes


def lying(exchange: Exchange) -> Mask:
    """Which links have a Byzantine sender."""
    hostile = np.fromiter(exchange.hostile, dtype=np.int64, count=len(exchange.hostile))
    return np.isin(exchange.links.sender, hostile)


def liars(exchange: Exchange) -> Nodes:
    """(n): the number of Byzantine senders that each receiver is told of."""
    links = exchange.links
    true = np.bincount(links.receiver[lying(exchange)], minlength=links.nodes)
    nominal = -(-len(exchange.hostile) * links.degrees // links.nodes)
    return np.maximum(true, nominal)
