"""Neighbourhoods: what a node may choose from, its own model and those it received, in blocks.

A block holds receivers that hear equally many senders, and are told of equally many liars, so
no place is ever padded and a rule needs no mask. Blocks are small enough to stay in a cache,
and that bounds memory whatever the network's size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange
    from konsil.simulations.sim.links import Nodes

ELEMENTS = 1 << 18
"""Elements of a block: 1 MiB of float32. One receiver alone may need more."""


@dataclass(frozen=True)
class Neighbourhoods:
    """The candidates of b receivers of the same degree k."""

    receivers: Tensor
    """(b) node numbers."""
    candidates: Tensor
    """(k + 1, b, p): the receiver's own trained model, then what its links brought. A copy,
    which a rule may write into."""
    liars: int
    """How many of the k senders are Byzantine, as the rule is told."""


def neighbourhoods(exchange: Exchange, liars: Nodes | None = None) -> Iterator[Neighbourhoods]:
    """Every receiver once. `liars` (n) is how many each is told of; absent: none."""
    links = exchange.links
    told = np.zeros(links.nodes, dtype=np.int64) if liars is None else liars
    degrees, starts = links.degrees, links.starts
    order = np.lexsort((told, degrees))
    alike = np.stack([degrees[order], told[order]])
    edges = np.flatnonzero((alike[:, 1:] != alike[:, :-1]).any(axis=0)) + 1
    for group in np.split(order, edges):
        degree = int(degrees[group[0]])
        size = max(1, ELEMENTS // ((degree + 1) * max(exchange.trained.shape[1], degree + 1)))
        for first in range(0, len(group), size):
            block = group[first : first + size]
            places = starts[block] + np.arange(degree)[:, None]
            yield _gathered(exchange, block, exchange.source[places], int(told[block[0]]))


def _gathered(exchange: Exchange, receivers: Nodes, rows: Nodes, liars: int) -> Neighbourhoods:
    """The block in which `receivers` (b) hear `rows` (k, b) of the table."""
    trained, table = exchange.trained, exchange.table
    chosen = torch.from_numpy(receivers).to(trained.device)
    candidates = trained.new_empty((len(rows) + 1, len(receivers), trained.shape[1]))
    torch.index_select(trained, 0, chosen, out=candidates[0])
    heard = torch.from_numpy(rows.reshape(-1)).to(trained.device)
    torch.index_select(table, 0, heard, out=candidates[1:].view(len(heard), trained.shape[1]))
    return Neighbourhoods(chosen, candidates, liars)
