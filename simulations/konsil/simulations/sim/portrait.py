"""Portrait: what a picture of a run shows of single nodes and links, beside its `Result`.

Grants are means of w / W over the last quarter of rounds, as in reports. They are kept for
networks small enough to be drawn link by link; of larger ones only the metrics are there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from konsil.simulations.sim.links import Links, Mask
    from konsil.simulations.sim.shard import Shard

    Values: TypeAlias = npt.NDArray[np.float64]

MOST_NODES = 300
"""Above, links are too many to be seen in a picture."""


@dataclass(frozen=True)
class Portrait:
    """The last state of n nodes."""

    links: Links
    """The topology's, in the last round."""
    metric: Values
    """(n): of each node's model; NaN for Byzantine nodes, whose models nobody uses."""
    hostile: Mask
    """(n): who is Byzantine."""
    granted: Values | None
    """(links): share of the topology's weight that the receiver granted; NaN where nothing
    arrived. None above `MOST_NODES`, and for a rule that has no weights."""


class Grants:
    """Sums up what the receivers of one shard grant, over the last quarter of all rounds."""

    def __init__(self, shard: Shard, rounds: int) -> None:
        self._shard = shard
        self._first = rounds - math.ceil(rounds / 4) + 1
        size = (shard.end - shard.begin, shard.nodes) if shard.nodes <= MOST_NODES else (0, 0)
        self._sums, self._times = np.zeros(size), np.zeros(size)

    def add(self, number: int, links: Links, granted: Tensor) -> None:
        """In round `number` these links, whose receivers count from 0, were granted that much."""
        if number < self._first or not self._sums.size:
            return
        self._sums[links.receiver, links.sender] += np.asarray(granted.double().cpu())
        self._times[links.receiver, links.sender] += 1

    def of(self, links: Links, device: str) -> Values | None:
        """The mean of each of these links among all nodes; every process of a run must ask."""
        if self._shard.nodes > MOST_NODES:
            return None
        sums, times = (
            np.asarray(self._shard.gather(torch.from_numpy(one).to(device)).cpu())
            for one in (self._sums, self._times)
        )
        if not times.any():
            return None
        with np.errstate(invalid="ignore"):
            means: Values = sums / times
        return means[links.receiver, links.sender]
