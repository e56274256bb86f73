"""Offers: which of the held artifacts take part in a round's mix, and how stale each is.

What is new of those that the round hears; of each its newest, which counts once. Its lag is the
number of own rounds since it was first held. Two exceptions:

- A neighbour that has stopped learning stands where its newest artifact is. It takes part in
  every round, without lag, until we have trained for more rounds than it had. So a hospital that
  comes when all others have stopped reaches their level from their heads alone.
- In `pairs` the partner's newest takes part whether it is new or not, with its lag.

Pure: it only reads the shelf and the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.node.learning.shelf import Held
from konsil.node.learning.worker_messages import Candidate
from konsil.trust import integrate, score, weights

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from konsil.node.learning.memory import Memory
    from konsil.node.learning.neighbour import Neighbour
    from konsil.node.learning.partners import Gossip
    from konsil.node.learning.shelf import Shelf


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact that takes part in a mix."""

    held: Held
    lag: int
    """Own rounds since it was first held; 0 when its publisher stands there still."""


def offers(
    gossip: Gossip,
    shelf: Shelf,
    memory: Memory,
    me: str,
    heard: Collection[str],
    live: Mapping[str, Neighbour],
) -> tuple[Offer, ...]:
    """What the round `memory.round` mixes, by publisher.

    With `neighbours`, what came of a neighbour that has left since is not lost.
    """
    kinds = integrate.alike(memory.kind)
    fresh = {held.head.publisher: held for held in shelf.fresh(kinds, without=me)}
    found = dict(fresh) if gossip == "neighbours" else {}
    lags = {}
    for node in heard:
        newest = shelf.latest(node, kinds)
        if newest is None:
            continue
        stands = not live[node].learning and newest.head.round >= memory.round
        if stands:
            lags[node] = 0
        if stands or node in fresh or gossip == "pairs":
            found[node] = newest
    return tuple(
        Offer(held=held, lag=lags.get(node, max(0, memory.round - held.since_round)))
        for node, held in sorted(found.items())
    )


def candidate(
    offer: Offer,
    memory: Memory,
    live: Mapping[str, Neighbour],
    degree: int,
    base_rate_e9: int | None,
) -> Candidate:
    """What the worker must know of an offer to weigh it; `degree` is our own in this round."""
    held, publisher = offer.held, offer.held.head.publisher
    standing = memory.standing(publisher)
    theirs = live[publisher].degree if publisher in live else degree
    return Candidate(
        art=held.head.art,
        tensors=bytes.fromhex(held.artifact.payload.tensors),
        node=publisher,
        lag=offer.lag,
        metropolis_e9=weights.metropolis_e9(degree, max(theirs, 1)),
        r_e9=standing.r_e9,
        s_e9=standing.s_e9,
        base_rate_e9=score.NEUTRAL_E9 if base_rate_e9 is None else base_rate_e9,
        pinned_e9=standing.gate_e9,
        copied=memory.copied(held.head.art, publisher),
        classes=tuple(one.name for one in held.artifact.coverage.classes if one.rows > 0),
    )
