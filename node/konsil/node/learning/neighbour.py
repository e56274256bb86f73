"""A live neighbour as the learner sees it: what it last said of itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A live neighbour as the learner sees it."""

    node: str
    degree: int
    """With how many it mixes; 0 while its task is not open yet."""
    learning: bool
    """False when it told that it will publish nothing more."""
    told: Mapping[str, int] = MappingProxyType({})
    """The number of the newest artifact of its own that it told of, by kind."""

    @property
    def at_work(self) -> bool:
        """Whether its next artifact is on its way: nobody waits for those that open their task."""
        return self.learning and self.degree > 0

    @property
    def settled(self) -> bool:
        """Whether a first round need not wait for it any more."""
        return self.degree > 0 or not self.learning
