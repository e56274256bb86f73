"""Members: charter version 0, the list that every founder holds.

Until a charter is signed, the list of `[[members]]` in the configuration is the charter.
Its digest stands in every ledger entry after the first and in every manifest, so that two
nodes with different lists notice at once. Addresses are left out of the digest on purpose:
a hospital may change its network without changing who is a member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import cmp1
from konsil.protocol.digest import Digest, tagged
from konsil.protocol.errors import ConfigError
from konsil.protocol.records import NameField, NodeField, PeerField

if TYPE_CHECKING:
    from collections.abc import Iterable


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One node of the consortium: short name, node id, peer id and where to dial it."""

    name: NameField
    node: NodeField
    peer: PeerField
    addresses: tuple[str, ...] = ()


class Charter0(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The consortium's name and its founders."""

    consortium: NameField
    members: tuple[Member, ...]

    def digest(self) -> Digest:
        """The charter's digest: the same whatever the order and the addresses of members."""
        members = sorted((one.name, one.node, one.peer) for one in self.members)
        return tagged("charter 0", cmp1.encode([self.consortium, members]))

    def validate(self) -> None:
        """Raise `ConfigError`, naming the entry, unless names, nodes and peers are unique."""
        if not self.members:
            raise ConfigError("the consortium has no members", hint="add a [[members]] table")
        _unique("name", (one.name for one in self.members))
        _unique("node", (one.node for one in self.members))
        _unique("peer", (one.peer for one in self.members))


def _unique(field: str, values: Iterable[str]) -> None:
    seen: dict[str, int] = {}
    for position, value in enumerate(values):
        if value in seen:
            raise ConfigError(
                f"members[{position}].{field} is {value!r}, as is members[{seen[value]}].{field}",
                hint="each member is listed once",
            )
        seen[value] = position
