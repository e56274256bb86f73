"""Sheets: answers as they travel, what they stand for, show, and what many of them fuse to.

The only place of the simulator that knows how `konsil.knowledge.teaching` judges and fuses
answers. A sheet is (m, C) in half precision: m rows of the question, C classes. A teacher does
not speak of a class that it has not seen; there the receiver's own answers stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from konsil.knowledge.teaching.answers import bounded
from konsil.knowledge.teaching.consensus import consensus
from konsil.knowledge.teaching.hearing import heard
from konsil.trust.fixed import UNIT_E9

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from konsil.knowledge.teaching.hearing import Heard
    from konsil.simulations.sim.links import Nodes
    from konsil.trust.fixed import Integers


@dataclass(frozen=True)
class Sheets:
    """The sheets that are under way in a round, and who of their authors speaks of what."""

    said: Tensor
    """(t, m, C): the logarithms of probabilities that what travels stands for."""
    classes: tuple[str, ...]
    seen: Sequence[tuple[str, ...]]
    """By node, the classes of which it says that it has rows."""

    def spoken(self, rows: Nodes, authors: Nodes, beside: Tensor) -> Tensor:
        """(k, m, C) probabilities: what sheets of these authors each say alone to receivers whose
        own probabilities are `beside` (k, m, C).

        That is `consensus` with one teacher, for many at once: of the classes that it has seen
        it divides the mass that they have for the receiver.
        """
        knows = self.knows[torch.from_numpy(authors)][:, None]
        alone = self.said[torch.from_numpy(rows)].masked_fill(~knows, -torch.inf).softmax(-1)
        mass = torch.where(knows, beside, torch.zeros_like(beside)).sum(-1, keepdim=True)
        told = torch.where(knows.sum(-1, keepdim=True) < self.said.shape[-1], mass, 1.0)
        return torch.where(knows, alone * told, beside)

    @cached_property
    def knows(self) -> Tensor:
        """(n, C): whether an author has seen a class."""
        known = [[name in its for name in self.classes] for its in self.seen]
        return torch.tensor(known, dtype=torch.bool)

    def heard(
        self, own: Tensor, own_known: Tensor, rows: Nodes, authors: Nodes, trusts_e9: Integers
    ) -> Heard:
        """What sheets of these authors (k) show to a receiver with its `own` answers (logarithms)
        of the classes `own_known` (C, bool), believing each author as far as this (k) in 1e-9."""
        return heard(
            list(self.said[torch.from_numpy(rows)]),
            self.knows[torch.from_numpy(authors)],
            torch.from_numpy(trusts_e9) / UNIT_E9,
            own,
            own_known,
        )

    def fused(
        self,
        own: Tensor,
        node: int,
        kept_e9: int,
        rows: Nodes,
        authors: Nodes,
        parts_e9: Integers,
        loud: Tensor,
    ) -> Tensor:
        """(m, C) probabilities: what a receiver shall learn, by the weights in 1e-9 of its `own`
        answers (logarithms) and of others', who are as `loud` (k, C) in each class."""
        mine = kept_e9 * self.knows[node : node + 1].double()
        others = torch.from_numpy(parts_e9)[:, None] * self.knows[torch.from_numpy(authors)] * loud
        return consensus([own, *self.said[torch.from_numpy(rows)]], torch.cat([mine, others]), own)


def logarithms(sheets: Tensor) -> Tensor:
    """The logarithms of the probabilities (…, C) that sheets stand for, in float64."""
    return torch.log_softmax(bounded(sheets.double()), dim=-1)
