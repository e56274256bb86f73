"""LMA: the class that is least likely by the honest mean takes the place of the likeliest.

The lie that costs a student most on each question (loss maximisation, Roux, Zimmer and Pokutta,
"On the Byzantine-resilience of distillation-based federated learning").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.answering import attacks

if TYPE_CHECKING:
    from torch import Tensor


def least(honest: Tensor) -> Tensor:
    """(m, C): the likeliest and the least likely class exchange what they have."""
    return exchanged(honest, honest.argmin(1))


def exchanged(honest: Tensor, other: Tensor) -> Tensor:
    """(m, C): in each row the likeliest class and the class `other` (m) exchange places."""
    import torch

    best = honest.argmax(1)
    places = torch.arange(honest.shape[1], device=honest.device).repeat(len(honest), 1)
    places.scatter_(1, best[:, None], other[:, None])
    return places.scatter_(1, other[:, None], best[:, None])


ATTACKS = attacks("lma", least)
