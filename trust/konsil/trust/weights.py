"""Weights: how much of the topology's own weight a peer's model is granted (trust.md, step 6).

All factors are fractions in 1e-9 and every product is rounded down. What a factor refuses
returns to the node's own model; nothing is renormalised, so the floor is to learn alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol.errors import LocalProtocolError
from konsil.trust.fixed import CEILING_E9, UNIT_E9, choose, greater, lesser, part

if TYPE_CHECKING:
    from collections.abc import Collection

    from konsil.trust.fixed import Amount

_CLOSED_E9 = 300_000_000
_OPENING_E9 = 200_000_000
_HARMFUL_E9 = 200_000_000


def metropolis_e9(degree: Amount, other_degree: Amount) -> Amount:
    """The Metropolis weight of an edge: ``1 / (1 + max(degrees))``, in 1e-9.

    Symmetric, and summing to less than one over a node's edges, so the own weight stays
    positive (Xiao and Boyd, 2004). A publisher that has just left counts as one neighbour.

    >>> metropolis_e9(2, 4)
    200000000
    """
    return UNIT_E9 // (1 + greater(greater(degree, other_degree), 1))


def shared_out(weight_e9: Amount, candidates: Amount) -> Amount:
    """An edge's weight when `candidates` artifacts are mixed at once.

    The same, unless relayed artifacts of nodes that are no neighbours make them more than
    the edges; then ``1 / (1 + candidates)``, so that the weights still leave an own share.
    """
    return lesser(weight_e9, UNIT_E9 // (1 + candidates))


def staleness(lag: Amount) -> Amount:
    """``1 / (1 + lag)``: an artifact held for `lag` own rounds counts less, never nothing."""
    if isinstance(lag, int) and lag < 0:
        raise LocalProtocolError(f"a lag of {lag} rounds")
    return UNIT_E9 // (1 + lag)


def share(art: bytes, own: Collection[bytes], *, copied: bool) -> int:
    """0 for an echo of the `own` models of this round and for a copy, else one (step 3).

    `copied` tells that another author handed in this payload first.
    """
    return 0 if copied or art in own else UNIT_E9


def gate(trust_e9: Amount) -> Amount:
    """Closed up to a trust of 0.3, fully open from 0.5 on; a newcomer stands at 0.5.

    >>> gate(300_000_000), gate(400_000_000), gate(500_000_000)
    (0, 500000000, 1000000000)
    """
    return lesser(greater((trust_e9 - _CLOSED_E9) * UNIT_E9 // _OPENING_E9, 0), UNIT_E9)


def opening(quality_e9: Amount) -> Amount:
    """How far one artifact of this quality opens the gate, whatever its author did before.

    Closed up to 0.2, fully open from 0.4 on: harm that is this plain is refused at once, not
    after trust that was earned in better days is spent (docs/adr/0016).

    >>> opening(200_000_000), opening(300_000_000), opening(400_000_000)
    (0, 500000000, 1000000000)
    """
    return lesser(greater((quality_e9 - _HARMFUL_E9) * UNIT_E9 // _OPENING_E9, 0), UNIT_E9)


def clip(distance_e9: Amount, tau_e9: Amount, own_e9: Amount) -> Amount:
    """The factor that shortens a peer's step to ``min(5/3 tau, 6 own)`` (step 7).

    `distance_e9` is from the own trained model to the peer's, `tau_e9` the trusted third
    of such distances, `own_e9` the length of the node's own step of this round. 0 at a
    saturated distance, because how far away the model really is was lost.
    """
    reach = lesser(5 * tau_e9, 18 * own_e9)
    way = greater(3 * distance_e9, 1)
    factor = choose(way <= reach, UNIT_E9, part(lesser(reach, way), way))
    near = choose(distance_e9 <= 0, UNIT_E9, factor)
    return choose(distance_e9 >= CEILING_E9, 0, near)  # type: ignore[no-any-return]
