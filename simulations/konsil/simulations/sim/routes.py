"""Routes: which row of the table each link brings to whom, and all that follows from that alone.

Most networks have one graph and no faults, so their routes are the same object in every round,
and what is worked out here, once it is asked for, serves the whole run. Nobody writes into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.links import Links, Mask, Nodes
    from konsil.trust.fixed import Integers


@dataclass(frozen=True)
class Routes:
    """The links to n receivers, and what each brings; tensors are made on `device`."""

    links: Links
    source: Nodes
    """Row of the table that each link brings (one entry a link)."""
    metropolis_e9: Integers
    """The topology's own weight of each link."""
    device: str | torch.device = "cpu"

    def keep(self, mask: Mask) -> Routes:
        """The same with only those links for which `mask` holds."""
        if mask.all():
            return self
        return Routes(
            self.links.keep(mask), self.source[mask], self.metropolis_e9[mask], self.device
        )

    @cached_property
    def degrees(self) -> Nodes:
        """(n): how many links each receiver has."""
        return self.links.degrees

    @cached_property
    def places(self) -> Nodes:
        """The place of each link among its receiver's links, from 0."""
        return self.links.places

    @cached_property
    def even(self) -> bool:
        """Does every receiver hear equally many, at least one?"""
        return self.links.even

    @cached_property
    def receivers(self) -> Tensor:
        """Receiver of each link."""
        return torch.from_numpy(self.links.receiver).to(self.device)

    @cached_property
    def sources(self) -> Tensor:
        """Row of the table that each link brings."""
        return torch.from_numpy(self.source).to(self.device)

    @cached_property
    def starts(self) -> Tensor:
        """(n + 1): where each receiver's links begin."""
        return torch.from_numpy(self.links.starts).to(self.device)

    @cached_property
    def metropolis(self) -> Tensor:
        """`metropolis_e9` as float32."""
        return torch.from_numpy(self.metropolis_e9 / 1e9).to(self.device, torch.float32)

    @cached_property
    def kept(self) -> Tensor:
        """(n): what the weights of its links leave to each receiver's own model."""
        return 1 - self.totals(self.metropolis)

    @cached_property
    def everything(self) -> Tensor:
        """1 for each link."""
        return torch.ones_like(self.metropolis)

    def totals(self, weights: Tensor) -> Tensor:
        """(n): the weights of each receiver's links, added."""
        return weights.new_zeros(self.links.nodes).index_add_(0, self.receivers, weights)

    @cached_property
    def closed_metropolis(self) -> Tensor:
        """The topology's weights of the `closed` links."""
        return torch.cat([self.kept, self.metropolis])[self.closed[2]]

    @cached_property
    def closed(self) -> tuple[Tensor, Tensor, Tensor]:
        """The links with one more of each receiver to itself, before its others.

        Rows of a table that begins with the receivers' own models, where each receiver's begin
        (n + 1), and the place of each link's weight behind the n own weights.
        """
        count = self.links.nodes
        begins = self.links.starts + np.arange(count + 1)
        heard = np.ones(len(self.links) + count, dtype=bool)
        heard[begins[:-1]] = False
        rows, places = np.empty((2, len(heard)), dtype=np.int64)
        rows[heard], rows[~heard] = self.source, np.arange(count)
        places[heard], places[~heard] = count + np.arange(len(self.links)), np.arange(count)
        first, second, third = map(torch.from_numpy, (rows, begins, places))
        return first.to(self.device), second.to(self.device), third.to(self.device)
