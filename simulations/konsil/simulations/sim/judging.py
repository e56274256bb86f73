"""Judging: what received models do to the receivers' private losses, for many links at once.

The trial of trust.md, step 1, as `konsil.knowledge.judge` makes it for one hospital: the same
losses, the same part of the way, the same bound. Rows that do not count are padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from konsil.knowledge.judge import TRIAL
from konsil.knowledge.losses import (
    balanced_error,
    balanced_errors,
    balanced_shares,
    members,
    row_losses,
)
from konsil.simulations.sim.descent import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from konsil.simulations.sim.cohorts import Cohorts
    from konsil.simulations.sim.exchange import Exchange
    from konsil.simulations.sim.links import Nodes
    from konsil.simulations.sim.networks import Network, Trials
    from konsil.simulations.sim.routes import Routes

BLOCK_BYTES = 1 << 22
"""Parameters of the models that are judged together."""

LINKS_AT_ONCE = 256
"""Links that bring one model, judged together; and links whose errors are computed together."""


class Judging:
    """The private holdouts of all nodes, and the classes of which each has rows."""

    def __init__(self, network: Network, cohorts: Cohorts, device: str) -> None:
        self._network = network
        self._device = device
        self.see(cohorts.holdout_inputs)
        self._targets = cohorts.holdout_targets.to(device)
        places = torch.arange(self._targets.shape[1], device=device)
        counts = places[None, :] < torch.from_numpy(cohorts.holdout_rows).to(device)[:, None]
        self._members = members(self._targets, cohorts.classes, counts)
        self._shares = balanced_shares(self._members)
        seen = torch.zeros(cohorts.nodes, cohorts.classes, dtype=torch.bool)
        seen.scatter_(1, cohorts.targets, value=True)
        seen = seen.to(device).scatter_(1, self._targets, value=True)
        self._seen = None if bool(seen.all()) else seen
        self._planned: tuple[Routes, _Plan] | None = None
        """For the routes that were judged last."""

    def see(self, inputs: Tensor) -> None:
        """From now on the holdout rows look like this (n, h, …): patients drift."""
        self._inputs = inputs.to(self._device)

    def losses(self, models: Tensor, nodes: Tensor) -> Tensor:
        """The private loss (b) of each model (b, p) at its node (b); NaN counts as infinite."""
        outputs = self._network.outputs(models, self._inputs.index_select(0, nodes))
        return _mean(row_losses(outputs, *self._of(nodes)), self._shares.index_select(0, nodes))

    def gains(self, exchange: Exchange, way: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far each link's trial lowers the private loss, the standard error of that (links),
        (links), and the private losses (n) before it.

        A trial starts from the receiver's model before training and goes `TRIAL` of the `way`
        (links: the part of the distance that the bound leaves) towards the received model.
        """
        before, receivers = exchange.before, exchange.routes.receivers
        trials = self._network.trials(before, self._inputs)
        stay = row_losses(trials.stay(), self._targets, self._seen)
        moved = self._moved(trials, exchange, (TRIAL * way).to(before))
        here = _mean(stay, self._shares)
        start, there = here[receivers], _mean(moved, self._shares.index_select(0, receivers))
        gain = torch.where(start == there, torch.zeros_like(start), start - there)
        error = self._errors(stay, moved, exchange.routes)
        fine = torch.isfinite(start + there)
        return gain, torch.where(fine, error, torch.zeros_like(error)), here

    def _moved(self, trials: Trials, exchange: Exchange, part: Tensor) -> Tensor:
        """The losses (links, h) of each link's trial, those of one sent model side by side."""
        count, elements = len(part), exchange.table.shape[1]
        found = torch.empty(
            (count, self._targets.shape[1]), dtype=torch.float64, device=part.device
        )
        plan, done = self._plan(exchange.routes), 0
        for one in plan.together:
            way = part[one.links]
            for begin, end in blocks(len(way), way.shape[1] * elements, BLOCK_BYTES):
                some = slice(begin, end)
                ends, which = _rows_of(exchange.table, one.source[some]), one.receivers[some]
                losses = row_losses(
                    trials.moved(which, ends, way[some]), *self._of(which.flatten())
                )
                found[done : done + len(losses)] = losses
                done += len(losses)
        return found.index_select(0, plan.back)

    def _plan(self, routes: Routes) -> _Plan:
        """The trials to be made, kept as long as the routes stay."""
        if self._planned is None or self._planned[0] is not routes:
            together, order = [], [routes.receivers[:0]]
            for source, chosen in _together(routes.source):
                links = torch.from_numpy(chosen).to(self._device)
                together.append(_Together(source, links, routes.receivers[links]))
                order.append(links.flatten())
            self._planned = (routes, _Plan(tuple(together), torch.cat(order).argsort()))
        return self._planned[1]

    def _of(self, nodes: Tensor) -> tuple[Tensor, Tensor | None]:
        """The targets of these nodes' rows (b, h), and the classes they have (b, C)."""
        seen = None if self._seen is None else self._seen.index_select(0, nodes)
        return self._targets.index_select(0, nodes), seen

    def _errors(self, stay: Tensor, moved: Tensor, routes: Routes) -> Tensor:
        """The standard errors (links) of the trials' gains."""
        if routes.even:
            several = moved.view(len(stay), -1, moved.shape[1])
            return balanced_errors(stay[:, None] - several, self._members).flatten()
        found = torch.empty(len(moved), dtype=torch.float64, device=moved.device)
        for first in range(0, len(moved), LINKS_AT_ONCE):
            some = slice(first, first + LINKS_AT_ONCE)
            which = routes.receivers[some]
            found[some] = balanced_error(stay[which] - moved[some], self._members[which])
        return found


@dataclass(frozen=True)
class _Together:
    """Sent models (s) that equally many links (k) bring."""

    source: Nodes
    """(s): rows of the table, ascending."""
    links: Tensor
    """(s, k)."""
    receivers: Tensor
    """(s, k)."""


@dataclass(frozen=True)
class _Plan:
    """The trials of all links, those of one sent model together."""

    together: tuple[_Together, ...]
    back: Tensor
    """(links): where each link's trial is among them."""


def _mean(rows: Tensor, shares: Tensor) -> Tensor:
    return (rows * shares).sum(-1).nan_to_num(nan=torch.inf, posinf=torch.inf)


def _together(source: Nodes) -> Iterator[tuple[Nodes, Nodes]]:
    """Rows of a table (s), and the links (s, k) that bring each of them; every link once.

    A row that many links bring comes several times, with `LINKS_AT_ONCE` links at most.
    """
    order = np.argsort(source, kind="stable")
    ranked = source[order]
    first = np.flatnonzero(np.diff(ranked, prepend=-1))
    rank = np.arange(len(source)) - np.repeat(first, np.diff(first, append=len(source)))
    begin = np.flatnonzero(rank % LINKS_AT_ONCE == 0)
    counts = np.diff(begin, append=len(source))
    for count in np.unique(counts).tolist():
        mine = begin[counts == count]
        yield ranked[mine], order[mine[:, None] + np.arange(count)]


def _rows_of(table: Tensor, rows: Nodes) -> Tensor:
    """These rows (ascending) of a table: a view where they lie side by side."""
    if rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
        return table[int(rows[0]) : int(rows[-1]) + 1]
    return table[torch.from_numpy(rows).to(table.device)]
