"""Label flip: trained on wrong answers, class y taken for C − 1 − y; the boosted one thrice.

The plain attack sends what it honestly learned from such rows. The boosted one sends
a + 3·(x − a). Law: flipping twice changes nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from konsil.simulations.sim.attacks.view import Attack, rows
from konsil.simulations.sim.scenario import KINDS

if TYPE_CHECKING:
    from torch import Tensor

    from konsil.simulations.sim.attacks.view import View
    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Nodes

STRENGTH = 3.0
"""How much longer the boosted step is."""


def flipped(cohorts: Cohorts, nodes: Nodes, _seed: int) -> Cohorts:
    """The data with these nodes' training targets turned round."""
    targets = cohorts.targets.clone()
    targets[nodes] = cohorts.classes - 1 - targets[nodes]
    return dataclasses.replace(cohorts, targets=targets)


def boosted(view: View) -> Tensor:
    """(b, p): each Byzantine node's step made longer."""
    step = view.updates(view.hostile)
    return rows(view.before, view.hostile) + view.strength_or(STRENGTH) * step


ATTACK = Attack(poison=flipped, kinds=KINDS)
BOOSTED = Attack(poison=flipped, release=boosted, strength=STRENGTH)
