"""Noisy copies: one forged model from all, each under noise of its own, so that no two agree.

Whoever counts identical models once is to be deceived. The model is the sign flip of the
lowest Byzantine node; the noise is Gaussian, a tenth as long as the median honest update, so
two copies lie about 0.14 of that step apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.sign_flip import STRENGTH, flipped
from konsil.simulations.sim.attacks.view import Attack

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View

NOISE = 0.1
"""Length of the noise, as a share of the median honest update's."""


def blurred(view: View) -> Tensor:
    """(b, p): one model, under b noises."""
    import torch

    shape = (len(view.hostile), view.trained.shape[1])
    noise = torch.randn(shape, generator=view.generator).to(view.trained)
    noise /= noise.norm(dim=1, keepdim=True)
    typical = view.updates(view.honest).norm(dim=1).median()
    return noise.mul_(NOISE * typical).add_(flipped(view)[:1])


ATTACK = Attack(release=blurred, strength=STRENGTH)
