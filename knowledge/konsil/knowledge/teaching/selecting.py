"""Selecting: the weak labels that are worth learning from, without losing a class.

Confident labels are more often right, but a rule that ranks all rows together drops the class
on which the teacher is unsure, and weak-to-strong learning fails when the minority's share
differs between teacher and pool. So the same part of each class is kept, and at least one row.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


def confident(weak: Tensor, share: float) -> Tensor:
    """Row numbers (ascending) of the most confident `share` of each class, rounded up.

    `weak` are probabilities (n × C); the class of a row is its likeliest, and its confidence
    that probability. Of equal confidence the earlier row goes first. Raises `ConfigError`
    unless ``0 < share <= 1``.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"a share of {share} of the weak labels", hint="above 0, at most 1")
    best, label = weak.max(dim=1)
    kept = []
    for place in torch.unique(label).tolist():
        rows = torch.nonzero(label == place)[:, 0]
        order = torch.argsort(best[rows], descending=True, stable=True)
        kept.append(rows[order[: math.ceil(share * len(rows))]])
    return torch.cat(kept).sort().values if kept else torch.empty(0, dtype=torch.long)
