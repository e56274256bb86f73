"""Copies: which links bring a model that another brings too, or that is the receiver's own.

Step 3 of trust.md for all links of a round. Models are told apart by a mark of all their bits.
Equal models lie equally far from their receiver, so marks are made only where distances leave a
doubt: the answer is the same, and where all differ no model is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.exchange import Exchange
    from konsil.trust.fixed import Integers

_SURE_BITS = 18
"""Distances of one model, measured twice, agree in so many bits at least."""

_ODD = -1_640_531_527
"""2**32 by the golden ratio, as a 32-bit integer."""


def shares(exchange: Exchange, distance: Integers, reach: Integers) -> Integers:
    """0 for a copy of another candidate's model and for an echo of the receiver's own, else one.

    Of several identical models the first in the order of the links is the original. `distance`
    and `reach` of each link are those from the receiver's models after and before training.
    """
    if exchange.copied is not None:
        return np.where(exchange.copied, 0, UNIT_E9)  # ledgers tell who had it first
    if _all_differ(exchange, distance, reach):
        return np.full(len(distance), UNIT_E9)
    links = exchange.links
    sent = _marks(exchange.table)[exchange.source]
    own = (_marks(exchange.before)[links.receiver], _marks(exchange.trained)[links.receiver])
    order = np.lexsort((sent, links.receiver))  # stable: of equal ones the first comes first
    same = (np.diff(sent[order]) == 0) & (np.diff(links.receiver[order]) == 0)
    copied = np.zeros(len(links), dtype=bool)
    copied[order[1:][same]] = True
    return np.where(copied | (sent == own[0]) | (sent == own[1]), 0, UNIT_E9)


def _all_differ(exchange: Exchange, distance: Integers, reach: Integers) -> bool:
    """Do the distances rule out that any model is a copy or an echo?"""
    if not (distance.all() and reach.all()):
        return False
    receiver = exchange.links.receiver
    order = np.lexsort((distance, receiver))
    gaps = np.diff(distance[order])
    close = gaps <= (distance[order][1:] >> _SURE_BITS) + 1
    return not (close & (receiver[1:] == receiver[:-1])).any()


def _marks(models: Tensor) -> Integers:
    """A mark of each model: equal models have equal marks, others hardly ever."""
    bits = models.contiguous().view(torch.int32)
    factors = torch.arange(bits.shape[1], device=bits.device, dtype=torch.int32) * _ODD | 1
    marks: Integers = (bits * factors).sum(1, dtype=torch.int64).cpu().numpy()
    return marks
