"""Flip of answers: what honest nodes say of class c is said of class C − 1 − c.

Law: flipping twice changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.answering import attacks

if TYPE_CHECKING:
    from torch import Tensor


def turned(honest: Tensor) -> Tensor:
    """(m, C): class c gets what class C − 1 − c has."""
    import torch

    classes = honest.shape[1]
    return torch.arange(classes - 1, -1, -1, device=honest.device).expand(honest.shape)


ATTACKS = attacks("flip", turned)
