"""Members: who the simulated hospitals are, with keys that anybody can derive.

Keys and salts follow from the scenario's seed, so that a run can be repeated to the byte. They
keep nothing secret. So that nothing signed by them ever passes for a real hospital's, the
consortium is called `simulation`, and no key is written into a home: no daemon can run there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from konsil.node.init import member_table, node_toml
from konsil.protocol.digest import tagged
from konsil.protocol.identity import ROLES, KeySet, SigningKey, peer_id
from konsil.protocol.members import Charter0, Member
from konsil.simulations.sim.setting import name_of
from konsil.trust.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.digest import Digest
    from konsil.simulations.sim.setting import Setting
    from konsil.trust.entry_store import Store

CONSORTIUM = "simulation"
BEGIN_MS = 946_684_800_000
"""The start of the year 2000, when every simulation begins."""
ROUND_MS = 1_000
"""So long every round takes by the clock of the ledgers: whole days, by which evidence ages, would
need more rounds than any run has."""
SITE = "konsil.simulations.sim.site:build"
NOTICE = "# simulated: no keys lie in this home, and no daemon can run from it\n"


@dataclass
class Clock:
    """The time that all simulated hospitals agree on, in unix milliseconds."""

    now_ms: int = BEGIN_MS

    def __call__(self) -> int:
        """The time."""
        return self.now_ms

    def enter(self, number: int) -> None:
        """Round `number` begins."""
        self.now_ms = BEGIN_MS + number * ROUND_MS


class Salts:
    """The random bytes of one node's log; each call gives others."""

    def __init__(self, seed: int, node: int) -> None:
        self._source = tagged("simulation salts", str(seed).encode(), str(node).encode())
        self._drawn = 0

    def __call__(self, count: int) -> bytes:
        """`count` bytes that were not given before."""
        self._drawn += 1
        return hashlib.shake_256(self._source + self._drawn.to_bytes(8, "big")).digest(count)


def keys_of(seed: int, node: int) -> KeySet:
    """The five keys of a simulated node."""
    source = (str(seed).encode(), str(node).encode())
    return KeySet(
        {
            role: SigningKey.from_seed(tagged("simulation key", *source, role.encode()))
            for role in ROLES
        }
    )


def found(stores: Sequence[Store], seed: int, clock: Clock) -> tuple[list[Ledger], Digest]:
    """A ledger with its genesis entry over each of these empty stores, and the charter's digest.

    Every entry behind the first carries the charter: the list of all simulated nodes.
    """
    drawn = [Salts(seed, node) for node in range(len(stores))]
    keys = [keys_of(seed, node) for node in range(len(stores))]
    founded = [
        Ledger.found(
            store, name=name_of(node), consortium=CONSORTIUM, keys=keys[node], clock=clock,
            random=drawn[node],
        )
        for node, store in enumerate(stores)
    ]  # fmt: skip
    charter = Charter0(consortium=CONSORTIUM, members=tuple(map(member_of, founded))).digest()
    return [
        Ledger(store, keys=keys[node], clock=clock, random=drawn[node], charter=charter)
        for node, store in enumerate(stores)
    ], charter


def member_of(ledger: Ledger) -> Member:
    """A node's row of the member list; nobody can dial it."""
    author = ledger.author
    return Member(name=author.name, node=author.node, peer=peer_id(author.keys["peer"].raw))


def papers(setting: Setting, node: int, ledger: Ledger) -> dict[str, str]:
    """The files of a home that a daemon's operator writes: its configuration and member card."""
    member = member_of(ledger)
    training = {"rounds": setting.scenario.training.rounds, "seed": setting.scenario.seed}
    options = {"scenario": "../../scenario.toml", "site": node}
    text = node_toml(member, CONSORTIUM, SITE, (), options, training=training)
    return {"node.toml": NOTICE + text, "member.toml": member_table(member)}
