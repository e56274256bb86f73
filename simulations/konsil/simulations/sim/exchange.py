"""Exchange: what every node of a round has before it and received, ready to be mixed.

Models are rows: `before` and `trained` have one row a node, `table` has one row for each
model that is under way, honest or forged, fresh or late. Link e brings row `source[e]` of the
table to `links.receiver[e]`. A rule reads an exchange and returns a `Mixed`; it never writes
into any of these tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.judging import Judging
    from konsil.simulations.sim.links import Links, Mask, Nodes
    from konsil.simulations.sim.routes import Routes
    from konsil.simulations.sim.rules.evidence import Judgement
    from konsil.trust.fixed import Integers


@dataclass(frozen=True)
class Exchange:
    """One round of n nodes with p elements each, on one device, in float32.

    Where several processes share a network, n counts the nodes of this one; senders and
    `hostile` keep their numbers in the whole.
    """

    number: int
    """The round, from 1."""
    before: Tensor
    """(n, p): models before this round's training (a)."""
    trained: Tensor
    """(n, p): models after it (x)."""
    table: Tensor
    """(m, p): models under way."""
    routes: Routes
    """What arrives where; the same object as in the round before, as long as nothing changes."""
    lag: Nodes
    """Own rounds of the receiver since the model was sent, 0 when it is fresh (one a link)."""
    hostile: frozenset[int]
    """Who is Byzantine. Only the rules `oracle` and those told the true number may look."""
    copied: Mask | None = None
    """Links that bring what another node had first, or an echo of the receiver's own models, as
    its ledger shows it; None where nobody keeps ledgers."""

    @property
    def links(self) -> Links:
        """Who hears whom."""
        return self.routes.links

    @property
    def source(self) -> Nodes:
        """Row of `table` that each link brings (one entry a link)."""
        return self.routes.source

    @property
    def metropolis_e9(self) -> Integers:
        """The topology's own weight of each link."""
        return self.routes.metropolis_e9

    def keep(self, mask: Mask) -> Exchange:
        """The same with only those links for which `mask` holds."""
        return replace(
            self,
            routes=self.routes.keep(mask),
            lag=self.lag[mask],
            copied=None if self.copied is None else self.copied[mask],
        )


@dataclass(frozen=True)
class Mixed:
    """What a rule made of an exchange."""

    models: Tensor
    """(n, p): a new tensor."""
    granted: Tensor | None
    """w / W of each link, in [0, 1]; None where the rule has no weights."""
    weights: Tensor | None = None
    """w of each link, where it is not granted · W."""
    judgement: Judgement | None = None
    """How each link was weighed, by a rule that judges."""


class Rule(Protocol):
    """A way to mix; may remember earlier rounds, and is made anew for each run."""

    def mix(self, exchange: Exchange) -> Mixed:
        """The models after this round's exchange."""
        ...


@dataclass(frozen=True)
class RuleSetting:
    """What a rule may know of the run that it is made for."""

    rounds: int
    nodes: int
    """Of the whole network, also where a process mixes for some of them."""
    judging: Judging
    """The private holdouts of the nodes that it mixes for."""


def finite(exchange: Exchange) -> Exchange:
    """The exchange without the links that bring a model which is not finite.

    The models after training are finite.
    """
    if exchange.table is exchange.trained:
        return exchange  # training has been looked at
    if math.isfinite(exchange.table.sum()):
        return exchange  # else one of the rows may still be sound, or all and their sum too large
    sound = torch.isfinite(exchange.table).all(dim=1).cpu().numpy()[exchange.source]
    return exchange if sound.all() else exchange.keep(sound)
