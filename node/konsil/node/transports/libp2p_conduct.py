"""Conduct: what an organisation's node did to our transport, as a score for GossipSub.

Only abuse of the transport counts (garbage, oversize, unsigned, floods); of models and trust
nothing is known here, so that a hospital whose knowledge nobody wants still hears the news. libp2p
forgets a neighbour's penalties when it hangs up; these stay over every reconnection, by the peer
id that the organisation's membership binds it to, and fade only with time.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ABUSE: Mapping[str, float] = MappingProxyType(
    {"gossip message": 1.0, "gossip stream": 1.0, "gossip rate": 0.1}
)
"""What an offence weighs, by the places at which `Guard.note` counts a neighbour's own doing; one
message too many is soon sent, garbage never is."""
HALF_LIFE_S = 600.0
"""After so long half of what was done is forgiven."""
GRAYLIST = -16.0
"""With this score or less, whatever a neighbour gossips is ignored."""
WORST = -1_024.0
"""No flood makes it worse: a node that was mended is heard again after an hour."""


class Conduct:
    """Offences by peer id, fading; moments in seconds of any steady clock."""

    def __init__(self) -> None:
        self._offences: dict[str, tuple[float, float]] = {}

    def note(self, where: str, peer: str, now: float) -> None:
        """Something that `peer` sent had to be contained."""
        weight = ABUSE.get(where, 0.0)
        if weight and peer:
            self._offences[peer] = (min(weight - self.score(peer, now), -WORST), now)

    def score(self, peer: str, now: float) -> float:
        """0 for a good neighbour, and less by the weight of each offence that has not faded."""
        offences, since = self._offences.get(peer, (0.0, now))
        return -offences * math.exp2(-(now - since) / HALF_LIFE_S)
