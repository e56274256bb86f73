"""Shard: which nodes this process computes, and how it learns of the others' models.

Every process knows the whole scenario and decides everything random alike; it trains, judges and
mixes its own span of nodes only. The models that nodes send are gathered from all processes
once a round. A run in one process is the shard of everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

from konsil.protocol.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Nodes `begin` … `end` - 1 of `nodes`; process `rank` of `processes`."""

    nodes: int
    rank: int = 0
    processes: int = 1

    @property
    def begin(self) -> int:
        """The first node of this process."""
        return self.nodes * self.rank // self.processes

    @property
    def end(self) -> int:
        """One more than its last node."""
        return self.nodes * (self.rank + 1) // self.processes

    def gather(self, own: Tensor) -> Tensor:
        """The rows of all nodes, from each process's own; the same tensor when there is one."""
        if self.processes == 1:
            return own
        shards = [Shard(self.nodes, rank, self.processes) for rank in range(self.processes)]
        sizes = [one.end - one.begin for one in shards]
        # Gloo gathers parts of one size only.
        padded = own.new_zeros((max(sizes), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in shards]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def total(self, figures: Sequence[float], device: str) -> list[float]:
        """The sums of these figures over all processes."""
        if self.processes == 1:
            return list(figures)
        sums = torch.tensor(figures, dtype=torch.float64, device=device)
        dist.all_reduce(sums)
        return [float(one) for one in sums]


def whole_or_ranks(nodes: int) -> Shard:
    """The shard of this process: by `torch.distributed` where that was started, else everybody.

    Raises `ConfigError` where there are more processes than nodes.
    """
    if dist.is_available() and dist.is_initialized():
        processes = dist.get_world_size()
        if processes > nodes:
            raise ConfigError(
                f"[population] nodes = {nodes} are too few for {processes} processes",
                hint=f"start {nodes} processes at most",
            )
        return Shard(nodes, dist.get_rank(), processes)
    return Shard(nodes)
