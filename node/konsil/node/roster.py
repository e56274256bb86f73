"""Who the members are and with which keys they sign.

The member list pins node id and transport identity; the genesis entry, shown in the hello,
hashes to the node id and so yields every other key that the member began with. A genesis that
was met is kept, so that artifacts of a member can be verified while it is away, whoever brings
them. How the keys changed since, our mirror of the member's log says.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from konsil.protocol import genesis, identity
from konsil.protocol.errors import RemoteError, SessionRefused, StorageError
from konsil.protocol.keyring import Keyring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from konsil.node.config import NodeConfig
    from konsil.protocol.genesis import Author
    from konsil.protocol.members import Member


class Roster:
    """The members by node id, name and transport identity, and the keys learned so far."""

    def __init__(self, config: NodeConfig, folder: Path) -> None:
        self.me = config.me()
        self.consortium = config.consortium.name
        self.charter = config.charter().digest()
        self._by_node = {member.node: member for member in config.members}
        self._by_peer = {member.peer: member for member in config.members}
        self._by_name = {member.name: member for member in config.members}
        self._authors: dict[str, Author] = {}
        self._rings: dict[str, Keyring] = {}
        self._folder = folder
        self._recall()

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_node.values())

    def node(self, node: str) -> Member | None:
        """The member with this node id."""
        return self._by_node.get(node)

    def peer(self, peer: str) -> Member | None:
        """The member with this transport identity."""
        return self._by_peer.get(peer)

    def named(self, name: str) -> Member | None:
        """The member with this name, node id, or an unambiguous beginning of the id."""
        exact = self._by_name.get(name) or self._by_node.get(name)
        starts = [m for m in self if len(name) >= 6 and m.node.startswith(name)]
        return exact or (starts[0] if len(starts) == 1 else None)

    def peers(self) -> frozenset[str]:
        """The transport identities of all other members."""
        return frozenset(self._by_peer) - {self.me.peer}

    def author(self, node: str) -> Author | None:
        """Who a member is, and the keys that it began with, once its genesis was met."""
        return self._authors.get(node)

    def keyring(self, node: str) -> Keyring | None:
        """A member's keys over time, as far as its log is mirrored, once its genesis was met."""
        author = self._authors.get(node)
        return None if author is None else self._rings.get(node) or Keyring.of(author)

    def follow(self, ring: Keyring) -> None:
        """Know these keys of a member, which stand in its log under a root that it signed."""
        self._rings[ring.author.node] = ring

    def learn(self, entry: bytes, peer: str) -> Member:
        """The member that this genesis entry makes; remembers its keys.

        Raises a `RemoteError` when it is not the genesis of the member behind `peer`.
        """
        member = self._by_peer.get(peer)
        if member is None:
            raise SessionRefused(f"{peer} is not in the member list")
        if member.node not in self._authors:
            self._authors[member.node] = self._verified(entry, member)
            self._remember(entry, member)
        elif self._authors[member.node].entry != entry:
            raise SessionRefused(f"{member.name}: its genesis entry is not the one we know")
        return member

    def _verified(self, entry: bytes, member: Member) -> Author:
        author = genesis.read(entry)
        if author.node != member.node:
            raise SessionRefused(f"{member.name}: its genesis entry is not the one we know")
        if author.name != member.name or author.consortium != self.consortium:
            named = f"{author.name} of {author.consortium}"
            raise SessionRefused(f"{member.name}: its genesis entry names {named}")
        if identity.peer_id(author.keys["peer"].raw) != member.peer:
            raise SessionRefused(f"{member.name}: its genesis entry has another transport key")
        return author

    def _remember(self, entry: bytes, member: Member) -> None:
        path = self._folder / f"{member.node}.genesis"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".tmp")
            fresh.write_bytes(entry)
            os.replace(fresh, path)
        except OSError as error:
            raise StorageError(f"{path}: cannot be written: {error.strerror}") from error

    def _recall(self) -> None:
        for path in sorted(self._folder.glob("*.genesis")):
            member = self._by_node.get(path.stem)
            if member is None or not path.is_file():
                continue
            # A damaged copy is no loss: the member shows its genesis again at the next hello.
            with contextlib.suppress(RemoteError, OSError):
                self.learn(path.read_bytes(), member.peer)
