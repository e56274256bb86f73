"""Judging: what received models do to the receivers' private losses, for many links at once.

The trial of trust.md, step 1, as `konsil.knowledge.judge` makes it for one hospital: the same
losses, the same part of the way, the same bound. Rows that do not count are padding.
"""

from __future__ import annotations

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
    from konsil.simulations.sim.links import Links, Nodes
    from konsil.simulations.sim.networks import Network, Trials

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

    def see(self, inputs: Tensor) -> None:
        """From now on the holdout rows look like this (n, h, …): patients drift."""
        self._inputs = inputs.to(self._device)

    def losses(self, models: Tensor, nodes: Tensor) -> Tensor:
        """The private loss (b) of each model (b, p) at its node (b); NaN counts as infinite."""
        outputs = self._network.outputs(models, self._inputs[nodes])
        return self._mean(self._rows(outputs, nodes), nodes)

    def gains(self, exchange: Exchange, way: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How far each link's trial lowers the private loss, the standard error of that (links),
        (links), and the private losses (n) before it.

        A trial starts from the receiver's model before training and goes `TRIAL` of the `way`
        (links: the part of the distance that the bound leaves) towards the received model.
        """
        links, before = exchange.links, exchange.before
        nodes = torch.arange(links.nodes, device=before.device)
        trials = self._network.trials(before, self._inputs)
        stay = self._rows(trials.stay(), nodes)
        moved = self._moved(trials, exchange, (TRIAL * way).to(before))
        receivers = torch.from_numpy(links.receiver).to(before.device)
        here = self._mean(stay, nodes)
        start, there = here[receivers], self._mean(moved, receivers)
        gain = torch.where(start == there, torch.zeros_like(start), start - there)
        error = self._errors(stay, moved, links, receivers)
        fine = torch.isfinite(start + there)
        return gain, torch.where(fine, error, torch.zeros_like(error)), here

    def _moved(self, trials: Trials, exchange: Exchange, part: Tensor) -> Tensor:
        """The losses (links, h) of each link's trial, those of one sent model side by side."""
        device, elements = part.device, exchange.table.shape[1]
        found = torch.empty((len(part), self._targets.shape[1]), dtype=torch.float64, device=device)
        for source, chosen in _together(exchange.source):
            count = chosen.shape[1]
            for begin, end in blocks(len(source), count * elements, BLOCK_BYTES):
                links = torch.from_numpy(chosen[begin:end]).to(device)
                which = torch.from_numpy(exchange.links.receiver[chosen[begin:end]]).to(device)
                ends = _rows_of(exchange.table, source[begin:end])
                outputs = trials.moved(which, ends, part[links])
                found[links.flatten()] = self._rows(outputs, which.flatten())
        return found

    def _errors(self, stay: Tensor, moved: Tensor, links: Links, receivers: Tensor) -> Tensor:
        """The standard errors (links) of the trials' gains."""
        if links.even:
            several = moved.view(links.nodes, -1, moved.shape[1])
            return balanced_errors(stay[:, None] - several, self._members).flatten()
        found = torch.empty(len(moved), dtype=torch.float64, device=moved.device)
        for first in range(0, len(moved), LINKS_AT_ONCE):
            some = slice(first, first + LINKS_AT_ONCE)
            which = receivers[some]
            found[some] = balanced_error(stay[which] - moved[some], self._members[which])
        return found

    def _mean(self, rows: Tensor, nodes: Tensor) -> Tensor:
        return (rows * self._shares[nodes]).sum(-1).nan_to_num(nan=torch.inf, posinf=torch.inf)

    def _rows(self, outputs: Tensor, nodes: Tensor) -> Tensor:
        seen = None if self._seen is None else self._seen[nodes]
        return row_losses(outputs, self._targets[nodes], seen)


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
