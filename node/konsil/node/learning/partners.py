"""Partners: whose artifacts a node takes in during one of its rounds, and with what weight.

    neighbours   everybody that it is linked with, in every round
    epidemic     ceil(log2 n) of them, drawn anew for every round (Epidemic Learning, de Vos et
                 al., 2023); n counts itself
    pairs        one of them, drawn for every round; the two models are averaged, and nobody
                 waits for anybody (AD-PSGD, Lian et al., 2018)

The draw is a pure function of node, round and who is reachable: every candidate has a number
that follows from all three identities, and the smallest win. So all choices are equally likely,
each round anew; a restart chooses the same; and when a candidate comes or goes, only its own
place changes hands. Anybody can tell beforehand who hears whom: that a peer is heard says
nothing of its trust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from konsil.protocol.digest import tagged

if TYPE_CHECKING:
    from collections.abc import Collection

Gossip: TypeAlias = Literal["neighbours", "epidemic", "pairs"]


def partners(gossip: Gossip, node: str, number: int, reachable: Collection[str]) -> frozenset[str]:
    """Whom `node` hears in its round `number`, of those `reachable`; never itself.

    >>> sorted(partners("epidemic", "a", 1, ["a", "b", "c", "d", "e"]))
    ['c', 'd', 'e']
    """
    others = frozenset(reachable) - {node}
    if gossip == "neighbours":
        return others
    drawn = sorted(others, key=lambda other: (_number(node, number, other), other))
    return frozenset(drawn[: degree(gossip, len(others))])


def degree(gossip: Gossip, reachable: int) -> int:
    """How many others a node hears in a round when it can reach so many.

    >>> [degree("epidemic", n) for n in (0, 1, 2, 3, 4, 8, 100)]
    [0, 1, 2, 2, 3, 4, 7]
    """
    return {
        "neighbours": reachable,
        "epidemic": min(reachable, reachable.bit_length()),
        "pairs": min(reachable, 1),
    }[gossip]


def _number(node: str, number: int, other: str) -> bytes:
    return tagged("partners", node.encode(), number.to_bytes(8, "big"), other.encode())
