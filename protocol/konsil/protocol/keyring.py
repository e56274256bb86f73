"""Keyring: which key of a log's author signs at which position of the log.

A log begins with the keys of its genesis entry; each `key.rotate` and `key.revoke` at index n
replaces one of them from index n + 1 on. A change is signed by the recovery key in force and by
the new key. The position in the log is the only clock: what a revoked key signed at a position
from `last_good_size` on is void, what it signed before stays valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint, entries, note
from konsil.protocol.errors import KeyRevoked, ManifestRefused, RemoteError, SignatureRefused
from konsil.protocol.genesis import Author
from konsil.protocol.identity import SigningKey, VerifyKey
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import KeyChange, KeyRevoke, KeyRotate, key_change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.note import NoteKey

CHANGE_WORD = b"key.r"
"""Both types of change have it in their bytes: what has not holds no change of keys."""
_CHANGES = frozenset({"key.rotate", "key.revoke"})


def is_change(data: bytes) -> bool:
    """Whether these bytes are an entry that changes a key, as far as its frame says."""
    if CHANGE_WORD not in data:
        return False
    try:
        return entries.peek(data).t in _CHANGES
    except RemoteError:
        return False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """That `new` replaces the key of `role`, as the holder of the recovery key `rec` orders it.

    With `void_from` the old key is revoked: what it signed from that position on is void.
    """

    role: str
    new: SigningKey
    rec: SigningKey
    reason: str
    void_from: int | None = None

    def body(self, ring: Keyring, index: int) -> KeyChange:
        """The signed entry body that makes the change at `index` of the log of `ring`."""
        kind = KeyRotate if self.void_from is None else KeyRevoke
        body = kind(
            role=self.role,  # type: ignore[arg-type]
            old=ring.keys[self.role].raw,
            new=self.new.public.raw,
            reason=self.reason,
            last_good_size=index if self.void_from is None else self.void_from,
            by_rec=bytes(64),
            by_new=bytes(64),
        )
        message = key_change(ring.author.node, body)
        return msgspec.structs.replace(
            body, by_rec=self.rec.sign(message), by_new=self.new.sign(message)
        )


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """One key in one role: it signs at positions from `since` on, to the next period."""

    role: str
    key: VerifyKey
    since: int
    void_from: int | None = None
    """Entries from this index on that it signed are void, because the key was revoked."""


class Keyring(msgspec.Struct, frozen=True, kw_only=True):
    """Every key that an author ever had, in the order of the log."""

    author: Author
    periods: tuple[Period, ...]

    @classmethod
    def of(cls, author: Author) -> Keyring:
        """The keys of the genesis entry."""
        first = (Period(role=role, key=key, since=0) for role, key in author.keys.items())
        return cls(author=author, periods=tuple(first))

    def after(self, index: int, body: KeyChange) -> Keyring:
        """The keyring once the change `body` stands at `index`.

        Raises `ManifestRefused` for a change against the rules, `SignatureRefused` when the
        recovery key or the new key did not sign it.
        """
        current = self._current(body.role)
        if index < current.since or not index:
            raise ManifestRefused(f"the {body.role} key changes at {index}, before it served")
        if body.old != current.key.raw:
            raise ManifestRefused(f"the {body.role} key that is replaced is not the one in force")
        if any(period.key.raw == body.new for period in self.periods):
            raise ManifestRefused(f"the new {body.role} key has served before")
        revoked = isinstance(body, KeyRevoke)
        if body.last_good_size > index or (not revoked and body.last_good_size != index):
            raise ManifestRefused(f"last_good_size is {body.last_good_size} at entry {index}")
        message = key_change(self.author.node, body)
        fresh = VerifyKey(body.new)
        self._current("rec").key.verify(body.by_rec, message)
        fresh.verify(body.by_new, message)
        ended = msgspec.structs.replace(current, void_from=body.last_good_size if revoked else None)
        kept = tuple(ended if period is current else period for period in self.periods)
        return Keyring(
            author=self.author,
            periods=(*kept, Period(role=body.role, key=fresh, since=index + 1)),
        )

    def follow(self, index: int, data: bytes, limits: Limits = DEFAULT_LIMITS) -> Keyring:
        """The keyring once the entry `data` stands at `index`: the same, unless it is a change.

        Raises as `after` does, `ManifestRefused` also for a change that names another position,
        and `EncodingRefused` or `LimitExceeded` for one against the schema.
        """
        if not is_change(data):
            return self
        entry = entries.decode(data, limits=limits)
        if entry.n != index:
            raise ManifestRefused(f"entry {entry.n} ({entry.t}) stands at {index}")
        return self.after(index, entry.b) if isinstance(entry.b, KeyRotate | KeyRevoke) else self

    def before(self, index: int) -> Keyring:
        """The keyring as it was before entry `index` stood: no later change counts."""
        begun = [period for period in self.periods if period.since <= index]
        last = {period.role: period for period in begun}
        return Keyring(
            author=self.author,
            periods=tuple(
                msgspec.structs.replace(period, void_from=None)
                if last[period.role] is period
                else period
                for period in begun
            ),
        )

    @property
    def keys(self) -> dict[str, VerifyKey]:
        """The keys in force at the end of the log, by role."""
        return {period.role: period.key for period in self.periods}

    def at(self, role: str, index: int) -> VerifyKey:
        """The key that signs what stands at `index`. Raises `KeyRevoked` when it is void there."""
        period = self._period(role, index)
        if period.void_from is not None and index >= period.void_from:
            raise KeyRevoked(f"the {role} key was revoked from entry {period.void_from} on")
        return period.key

    def witness_keys(self) -> tuple[VerifyKey, ...]:
        """Every key under which the author ever cosigned, oldest first."""
        return tuple(period.key for period in self.periods if period.role == "wit")

    def open_checkpoint(
        self,
        data: bytes,
        *,
        known: Sequence[NoteKey] = (),
        only_known: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Checkpoint:
        """The verified head of the author's log in a note.

        The key in force at its size must have signed; the one before may have, and so may the
        `known` cosigners. Raises `EncodingRefused`, `LimitExceeded` or `SignatureRefused`
        (`KeyRevoked` when it is void).
        """
        origin = self.author.origin
        logs = [period for period in self.periods if period.role == "log"]
        own = [note.NoteKey(origin, period.key) for period in logs]
        text, signed = note.open_note(data, [*own, *known], only_known=only_known, limits=limits)
        head = checkpoint.from_text(text)
        if head.origin != origin:
            raise SignatureRefused(f"checkpoint of {head.origin} instead of {origin}")
        place = max(at for at, period in enumerate(logs) if period.since <= head.size)
        if own[place] not in signed:
            raise SignatureRefused(f"checkpoint: the key in force at {head.size} did not sign")
        void = logs[place].void_from
        if void is not None and head.size > void:
            raise KeyRevoked(f"checkpoint: its key was revoked from size {void} on")
        strangers = [
            key for at, key in enumerate(own) if key in signed and at not in (place, place - 1)
        ]
        if only_known and strangers:
            raise SignatureRefused("checkpoint: signed by a key of another time")
        return head

    def _current(self, role: str) -> Period:
        return next(period for period in reversed(self.periods) if period.role == role)

    def _period(self, role: str, index: int) -> Period:
        mine = (period for period in reversed(self.periods) if period.role == role)
        return next(period for period in mine if period.since <= index)
