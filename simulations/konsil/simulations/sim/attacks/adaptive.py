"""Adaptive: an attacker that knows the evidence rule and stays just inside what it lets through.

To each receiver goes its own model, moved in the direction in which the attackers' rows, pooled,
say that the loss rises. How far is bounded three times:

- in distance: a little less than what counts as near, by the distances of all that the receiver
  hears from honest nodes (the attackers' own lie just as far, so they do not move that measure);
- in function: the rule's own trial, made with the attackers' rows in place of the receiver's, may
  show harm of `SHOWN` of a usual honest gain, for which trust does not fall;
- against the search for copies: noise of each link's own, so that no two lie close together.

Without rows, as an attacker has none that stands alone, it goes against the mean honest step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.attacks.view import Attack, rows

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import Learning, View
    from konsil.simulations.sim.links import Nodes

NEAR = 5 / 3 * 0.95
"""A little less than what counts as near, in thirds of the distances."""
SHOWN = 0.25
"""Harm that may show in a trial, in scales of the usual gain."""
NOISE = 0.25
"""Length of the noise, as a share of the whole way."""
CLIMB, RATE = 5, 0.1
"""Steps of ascent that give the direction, and their size."""
SHARES = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
"""Parts of the whole way that are tried, in this order; then none of it."""


def sent(view: View) -> Tensor:
    """One row a hostile link."""
    import torch

    links = view.links
    receivers, place = np.unique(links.receiver[view.hostile_links], return_inverse=True)
    if not len(receivers):
        return view.trained[:0]
    start, before = rows(view.trained, receivers), rows(view.before, receivers)
    way = _directions(view, start) * _near(view, receivers)[:, None]
    if view.learning is not None:
        way *= _shares(view, view.learning, before, start, way)[:, None]
    models = rows(start + way, place)
    noise = torch.randn(models.shape, generator=view.generator).to(models)
    noise /= noise.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return models.add_(noise * (NOISE * rows(way, place).norm(dim=1, keepdim=True)))


def _near(view: View, receivers: Nodes) -> Tensor:
    """(b): how far from each receiver's trained model a model may lie."""
    import torch

    links, far = view.links, []
    honest = ~np.isin(links.sender, view.hostile)
    for receiver in receivers.tolist():
        mine = rows(view.trained, links.sender[honest & (links.receiver == receiver)])
        own = view.trained[receiver]
        if not len(mine):
            mine = view.before[receiver][None]
        apart = (mine - own).norm(dim=1)
        far.append(apart.sort().values[len(apart) // 3])
    # The noise is orthogonal to the way, and makes the whole a little longer.
    return torch.stack(far).mul_(NEAR / (1 + NOISE**2) ** 0.5)


def _directions(view: View, start: Tensor) -> Tensor:
    """(b, p): of length one; the way up for the loss on the attackers' rows."""
    learning = view.learning
    if learning is None:
        step = view.updates(view.honest).mean(0).neg().repeat(len(start), 1)
    else:
        up = start.clone()
        learning.network.descend(up, learning.steps(len(up), CLIMB), -RATE)
        step = up - start
    return step.div_(step.norm(dim=1, keepdim=True).clamp(min=1e-12))


def _shares(view: View, learning: Learning, before: Tensor, start: Tensor, way: Tensor) -> Tensor:
    """(b): the largest part of each way whose harm does not show."""
    import torch

    from konsil.knowledge.judge import TRIAL

    def gains(begin: Tensor, end: Tensor) -> Tensor:
        return learning.losses(begin) - learning.losses(begin + TRIAL * (end - begin))

    links = view.links
    fair = ~np.isin(links.sender, view.hostile) & ~np.isin(links.receiver, view.hostile)
    usual = gains(rows(view.before, links.receiver[fair]), rows(view.trained, links.sender[fair]))
    least = -SHOWN * 1.4826 * usual.abs().median() if len(usual) else torch.zeros(())
    found = torch.zeros(len(start)).to(start)
    for share in SHARES:
        hidden = gains(before, start + share * way) >= least
        found = torch.where((found == 0) & hidden, torch.full_like(found, share), found)
    return found


ATTACK = Attack(per_link=sent)
