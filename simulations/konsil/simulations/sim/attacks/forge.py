"""Forging: what all Byzantine nodes of a round send, whichever attacks they take in turn.

With k attacks the i-th Byzantine node, counted from 0, takes number i mod k. Each attack is
made as if all Byzantine nodes took it, and each node's share of it is kept: none of them ever
counts as honest in another's eyes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from konsil.simulations.sim.attacks import ATTACKS
from konsil.simulations.sim.attacks.view import rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from konsil.simulations.sim.attacks.view import Attack, View
    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.links import Nodes


@dataclass(frozen=True)
class Forged:
    """The models that b Byzantine nodes send in a round."""

    rows: Tensor
    """(m, p): first one row for each of the b nodes, what it sends to all unless a link has
    its own; then those links' rows."""
    links: Nodes
    """Places of the links whose sender is Byzantine, ascending."""
    source: Nodes
    """The row that each of them brings."""


def forge(names: Sequence[str], view: View) -> Forged:
    """What the view's Byzantine nodes send when they take these attacks in turn."""
    import torch

    released = rows(view.trained, view.hostile)
    links = view.hostile_links
    source = np.searchsorted(view.hostile, view.links.sender[links])
    sender, tables, count = source.copy(), [released], len(released)
    for attack, takers in _turns(names, len(view.hostile)):
        if attack.per_link is not None:
            mine = np.flatnonzero(np.isin(sender, takers))
            tables.append(rows(attack.per_link(view), mine))
            source[mine] = count + np.arange(len(mine))
            count += len(mine)
        elif attack.release is not None:
            places = torch.from_numpy(takers).to(released.device)
            released.index_copy_(0, places, rows(attack.release(view), takers))
    return Forged(torch.cat(tables) if len(tables) > 1 else released, links, source)


def poisoned(names: Sequence[str], cohorts: Cohorts, hostile: Nodes, seed: int) -> Cohorts:
    """The data with the training rows of these nodes changed by those attacks that do so."""
    for attack, takers in _turns(names, len(hostile)):
        if attack.poison is not None:
            cohorts = attack.poison(cohorts, hostile[takers], seed)
    return cohorts


def _turns(names: Sequence[str], hostile: int) -> Iterator[tuple[Attack, Nodes]]:
    """Each attack, and the places of those who take it among the Byzantine nodes."""
    turn = np.arange(hostile) % len(names)
    for at, name in enumerate(names):
        takers = np.flatnonzero(turn == at)
        if len(takers):
            yield ATTACKS[name], takers
