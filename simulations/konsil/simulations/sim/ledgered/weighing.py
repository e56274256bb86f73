"""Weighing: a round whose links have been weighed, and the mixes that follow by the kernel.

What the nodes hold afterwards is, to the bit, what an auditor computes from the payloads and
weights in their logs. Only models to which somebody else was granted weight are mixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge import mixing
from konsil.protocol.errors import LocalProtocolError
from konsil.trust.fixed import UNIT_E9
from konsil.trust.score import NEUTRAL_E9

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange, Mixed
    from konsil.simulations.sim.ledgered.release import Release
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.rules.evidence import Judgement
    from konsil.trust.fixed import Integers


@dataclass(frozen=True)
class Weighing:
    """All links of a round."""

    exchange: Exchange
    judgement: Judgement | None
    """None of a rule without evidence."""
    granted_e9: Integers
    """The coefficient of each link's model."""
    arrived: Sequence[Release]
    """What each link brought."""

    @classmethod
    def of(
        cls,
        exchange: Exchange,
        mixed: Mixed,
        judgement: Judgement | None,
        arrived: Sequence[Release],
    ) -> Weighing:
        """What a rule came to. Raises `LocalProtocolError` for one without weights."""
        if judgement is not None:
            return cls(exchange, judgement, judgement.weighed.w_e9, arrived)
        if mixed.weights is not None:
            weights = mixed.weights.double() * UNIT_E9
        elif mixed.granted is not None:
            whole = torch.from_numpy(exchange.metropolis_e9).to(mixed.granted.device)
            weights = mixed.granted.double() * whole
        else:
            raise LocalProtocolError("a rule without weights cannot be logged")
        return cls(exchange, None, weights.cpu().numpy().round().astype(np.int64), arrived)

    @property
    def trusts_e9(self) -> Integers:
        """Trust in each link's sender: a newcomer's, where nobody judges."""
        if self.judgement is None:
            return np.full(len(self.arrived), NEUTRAL_E9)
        return self.judgement.weighed.trust_e9

    @property
    def steps_e9(self) -> Integers:
        """(n): the part of the whole step that each node's private loss let through."""
        steps = np.full(self.exchange.links.nodes, UNIT_E9)
        if self.judgement is not None:
            steps[self.exchange.links.receiver] = self.judgement.step_e9
        return steps

    def blended(self) -> tuple[Nodes, Tensor]:
        """Who mixes at all, and their models (b, p).

        Raises `LocalProtocolError` where the peers' weights leave no room for the own model.
        """
        links, count, exchange = self.exchange.links, self.exchange.links.nodes, self.exchange
        others = np.bincount(links.receiver, self.granted_e9, count).astype(np.int64)
        if (others > UNIT_E9).any():
            over = others.max() - UNIT_E9
            raise LocalProtocolError(f"the peers' weights exceed one by {over}e-9")
        columns = 1 + int(links.degrees.max(initial=0))
        parts, weights = np.zeros((2, count, columns), dtype=np.int64)
        parts[:, 0], weights[:, 0] = np.arange(count), UNIT_E9 - others
        parts[links.receiver, links.places + 1] = count + exchange.source
        weights[links.receiver, links.places + 1] = self.granted_e9
        who = np.flatnonzero(others)
        rows = torch.cat([exchange.trained, exchange.table]).cpu().numpy()
        mixed = mixing.mix_rows(rows, parts[who], weights[who])
        return who, torch.from_numpy(mixed).to(exchange.trained.device)
