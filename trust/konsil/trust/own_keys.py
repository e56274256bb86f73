"""Own keys: which key of a node is in force where its log ends, and whether it is at hand.

A key that served before and does no more is refused: these keys are older than the log. One
that this copy of the log does not know is newer than the copy, which may be a backup: nothing
may be signed or appended until peers have brought back the change that put it in force. The
transport's key never changes, so it tells whose keys they are. To tell that no key ever changed
one must read the whole log; what opens it takes the keys' word for it where they are those of
the genesis entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint as heads
from konsil.protocol import note
from konsil.protocol.errors import ConfigError
from konsil.protocol.identity import KeySet
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.genesis import Author
    from konsil.protocol.identity import SigningKey
    from konsil.trust.entry_store import Store


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Our keys, and the roles whose key this copy of the log does not know yet."""

    keys: KeySet
    ahead: tuple[str, ...]

    def require(self) -> KeySet:
        """The keys, if they may be used. Raises `ConfigError`."""
        if self.ahead:
            raise ConfigError(
                f"{self.ahead[0]}.key is none of this ledger, or newer than this copy of it",
                hint="put the home's own `keys` folder back; if the ledger is an old copy, start"
                " the node while its neighbours run: they hold what is missing here",
            )
        return self.keys


def follow(store: Store, ring: Keyring, *, limits: Limits = DEFAULT_LIMITS) -> Keyring:
    """The keyring after every change of keys that stands in a store.

    Looks at every entry. Raises what `Keyring.after` raises for a change against the rules.
    """
    for index in range(store.size):
        ring = ring.follow(index, store.entry(index), limits)
    return ring


def in_force(
    store: Store,
    author: Author,
    keys: KeySet,
    following: Mapping[str, SigningKey],
    limits: Limits,
) -> tuple[Keyring, Held]:
    """The keyring at the end of the log, and our keys as they stand to it."""
    ring = Keyring.of(author)
    if following or any(keys[role].public != ring.keys[role] for role in keys.keys):
        ring = follow(store, ring, limits=limits)
    return ring, matching(ring, keys, following)


def matching(ring: Keyring, keys: KeySet, following: Mapping[str, SigningKey]) -> Held:
    """Our keys as they stand to a keyring.

    Raises `ConfigError` for keys that are older than the log, or somebody else's.
    """
    held, ahead = {}, []
    known = {period.key for period in ring.periods}
    for role in keys.keys:
        choice = [key for key in (keys[role], following.get(role)) if key is not None]
        fits = [key for key in choice if key.public == ring.keys[role]]
        if not fits and (role == "peer" or keys[role].public in known):
            raise ConfigError(
                f"{role}.key is not the {role} key in force in the ledger of {ring.author.name}",
                hint="put the home's own, newest `keys` folder back",
            )
        if not fits:
            ahead.append(role)
        held[role] = (fits or choice)[0]
    return Held(keys=KeySet(held), ahead=tuple(ahead))


def saved_head(store: Store, ring: Keyring, limits: Limits) -> Checkpoint | None:
    """The head of the stored checkpoint; a revocation behind it does not make it void."""
    data = store.checkpoint
    if data is None:
        return None
    size = heads.from_text(note.parse(data, limits=limits)[0]).size
    return ring.before(size).open_checkpoint(data, only_known=True, limits=limits)
