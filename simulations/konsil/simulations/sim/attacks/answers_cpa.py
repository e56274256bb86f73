"""CPA: each class is taken for the one that it is most easily confused with, always the same.

The class prior attack of Roux, Zimmer and Pokutta, with the similarity of classes read from the
honest mean: of the rows in which class c is likeliest, which other one has most probability?
Such a lie looks like an honest mistake in every single row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.answering import attacks
from konsil.simulations.sim.attacks.answers_lma import exchanged

if TYPE_CHECKING:
    from torch import Tensor


def confused(honest: Tensor) -> Tensor:
    """(m, C): the likeliest class and its like exchange what they have."""
    return exchanged(honest, likes(honest)[honest.argmax(1)])


def likes(honest: Tensor) -> Tensor:
    """(C): the other class that has most probability where this one is likeliest.

    Of a class that is nowhere likeliest it is the one that leaves it most.
    """
    import torch

    shares = honest.softmax(1)
    best = torch.nn.functional.one_hot(honest.argmax(1), honest.shape[1]).to(shares)
    beside = best.T @ shares
    beside = torch.where(best.sum(0)[:, None] > 0, beside, shares.T @ best)
    return beside.fill_diagonal_(-1).argmax(1)


ATTACKS = attacks("cpa", confused)
