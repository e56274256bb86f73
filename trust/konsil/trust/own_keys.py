"""Own keys: which key of a node is in force where its log ends, and whether it is at hand.

A log whose keys never changed is not read for it: the keys in the home are those of the
genesis entry. Any other is read whole. Nothing is signed with a key that is not in force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from konsil.protocol import checkpoint as heads
from konsil.protocol import entries, note
from konsil.protocol.errors import ConfigError
from konsil.protocol.identity import KeySet
from konsil.protocol.keyring import Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import KeyRevoke, KeyRotate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.genesis import Author
    from konsil.protocol.identity import SigningKey
    from konsil.trust.ledger import Store

_KEY_WORD = b"key.r"
"""Both types of a change of keys begin with it; an entry without it is none."""


def follow(store: Store, ring: Keyring, *, limits: Limits = DEFAULT_LIMITS) -> Keyring:
    """The keyring after every change of keys that stands in a store.

    Looks at every entry. Raises what `Keyring.after` raises for a change against the rules.
    """
    for index in range(store.size):
        ring = after(ring, index, store.entry(index), limits)
    return ring


def after(ring: Keyring, index: int, data: bytes, limits: Limits) -> Keyring:
    """The keyring after the entry `data` at `index`. Raises as `follow` does."""
    body = entries.decode(data, limits=limits).b if _KEY_WORD in data else None
    return ring.after(index, body) if isinstance(body, KeyRotate | KeyRevoke) else ring


def in_force(
    store: Store,
    author: Author,
    keys: KeySet,
    following: Mapping[str, SigningKey],
    limits: Limits,
) -> tuple[Keyring, KeySet]:
    """The keyring at the end of the log, and the secret half of what is in force."""
    ring = Keyring.of(author)
    # Only a log whose keys changed costs a look at every entry.
    if following or any(keys[role].public != ring.keys[role] for role in keys.keys):
        ring = follow(store, ring, limits=limits)
    return ring, matching(ring, keys, following)


def matching(ring: Keyring, keys: KeySet, following: Mapping[str, SigningKey]) -> KeySet:
    """The secret half of what is in force. Raises `ConfigError` when it is not at hand."""
    held = {}
    for role in keys.keys:
        choice = [key for key in (keys[role], following.get(role)) if key is not None]
        fits = [key for key in choice if key.public == ring.keys[role]]
        if not fits:
            raise ConfigError(
                f"{role}.key is not the {role} key in force in the ledger of {ring.author.name}",
                hint="put the home's own, newest `keys` folder back",
            )
        held[role] = fits[0]
    return KeySet(held)


def saved_head(store: Store, ring: Keyring, limits: Limits) -> Checkpoint | None:
    """The head of the stored checkpoint; a revocation behind it does not make it void."""
    data = store.checkpoint
    if data is None:
        return None
    size = heads.from_text(note.parse(data, limits=limits)[0]).size
    return ring.before(size).open_checkpoint(data, only_known=True, limits=limits)
