"""Dissensus (He, Karimireddy and Jaggi 2022): every receiver is kept apart from its neighbours.

A receiver i gets x_i − ε Σ_{k honest} W_ik (x_k − x_i) / Σ_{j Byzantine} W_ij from each of its
Byzantine neighbours, with Metropolis weights W. In a plain mean ε = 1 undoes exactly what the
honest neighbours pull; ε is 1.5 at first, and drives them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View
    from konsil.simulations.sim.links import Links

STRENGTH = 1.5
"""ε."""


def metropolis(links: Links) -> npt.NDArray[np.float64]:
    """1 / (1 + the larger degree) of each link."""
    degrees = links.degrees
    return 1 / (1 + np.maximum(degrees[links.receiver], degrees[links.sender]))


def parted(view: View) -> Tensor:
    """One row a hostile link: what pulls its receiver away from its honest neighbours."""
    import torch

    from konsil.simulations.sim.rules.product import summed

    links, weights = view.links, metropolis(view.links)
    hostile = np.isin(links.sender, view.hostile)
    refused = np.bincount(links.receiver[hostile], weights[hostile], links.nodes)
    share = np.where(hostile, 0, weights / np.where(refused > 0, refused, 1)[links.receiver])
    attacked = ~hostile & (refused > 0)[links.receiver]
    honest, share = links.keep(attacked), share[attacked]
    scale = torch.from_numpy(share).to(view.trained)
    pull = summed(view.trained, honest.sender, honest, scale)
    total = torch.from_numpy(np.bincount(honest.receiver, share, links.nodes)).to(view.trained)
    receivers = links.receiver[hostile]
    own = rows(view.trained, receivers)
    pulled = rows(pull, receivers).sub_(own * rows(total, receivers).unsqueeze(1))
    return own.sub_(pulled, alpha=view.strength_or(STRENGTH))


ATTACK = Attack(per_link=parted, strength=STRENGTH)
