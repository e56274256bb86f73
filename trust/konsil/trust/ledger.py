"""The ledger of one node: an append-only log with one writer (RFC 6962, C2SP formats).

`Ledger` turns bodies into entries and signs checkpoints; a `Store` keeps them. Invariants:
an entry is durable before its receipt is returned; a checkpoint covers durable entries only
and never fewer than the one before; time in a log never runs backwards. Clock, salts and
keys are arguments, so that a run can be repeated to the byte. Appending and signing may
run in different threads.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

import msgspec

from konsil.protocol import checkpoint as heads
from konsil.protocol import entries, genesis, merkle, note, proof
from konsil.protocol.checkpoint import Checkpoint
from konsil.protocol.entries import NO_CHARTER, SALT_BYTES, Body, Entry
from konsil.protocol.entry_groups import encode_group
from konsil.protocol.errors import LocalProtocolError, ManifestRefused
from konsil.protocol.identity import RECOVERY, KeySet
from konsil.protocol.keyring import Change, Keyring
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.mirror import Leaf
from konsil.trust.own_keys import Held, follow, in_force, matching, saved_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from konsil.protocol.identity import SigningKey
    from konsil.protocol.p256 import P256SigningKey
    from konsil.trust.entry_store import Store


class Receipt(msgspec.Struct, frozen=True):
    """An entry stands at `index` of the log, made at `time_ms`; `leaf` is its leaf hash."""

    index: int
    leaf: bytes
    time_ms: int


class Ledger:
    """One node's log over a store that already holds its genesis entry."""

    def __init__(
        self,
        store: Store,
        *,
        keys: KeySet,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        charter: bytes = NO_CHARTER,
        limits: Limits = DEFAULT_LIMITS,
        following: Mapping[str, SigningKey] | None = None,
    ) -> None:
        """`clock` gives unix milliseconds, `random(n)` gives n bytes, `charter` fills `c`.

        `following` are keys, by role, that a change was about to put in force when the node
        stopped. Raises `ConfigError` when the keys are not those in force.
        """
        self.author = genesis.read(store.entry(0), limits=limits)
        self._following = following or {}
        self.keyring, self._held = in_force(store, self.author, keys, self._following, limits)
        self._store = store
        self._saved = saved_head(store, self.keyring, limits)
        self._outgoing: SigningKey | None = None
        self._clock = clock
        self._random = random
        self._charter = charter
        self._limits = limits
        self._last_ms = _last_ms(store, limits)
        self._writing = threading.Lock()
        self._signing = threading.Lock()

    @classmethod
    def found(
        cls,
        store: Store,
        *,
        name: str,
        consortium: str,
        keys: KeySet,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        p256_key: P256SigningKey | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Ledger:
        """A new log: its genesis entry, which may bind `p256_key`, is appended and signed for."""
        if store.size:
            raise LocalProtocolError("only an empty store can get a genesis entry")
        body = genesis.build(name=name, consortium=consortium, keys=keys, p256_key=p256_key)
        first = entries.entry(
            body, index=0, time_ms=clock(), salt=random(SALT_BYTES), charter=NO_CHARTER
        )
        data = entries.encode(first, limits=limits)
        store.append([(data, merkle.leaf_hash(data))])
        ledger = cls(store, keys=keys, clock=clock, random=random, limits=limits)
        ledger.sign_checkpoint()
        return ledger

    @property
    def size(self) -> int:
        """The number of durable entries."""
        return self._store.size

    @property
    def signed_size(self) -> int:
        """The number of entries under the last checkpoint."""
        return 0 if self._saved is None else self._saved.size

    @property
    def keys(self) -> KeySet:
        """Our keys; what they sign counts only once they are in force."""
        return self._held.keys

    def require_keys(self) -> None:
        """Raises `ConfigError` while a key of ours is newer than this copy of the log."""
        self._held.require()

    def check_keys(self) -> None:
        """Looks at every entry for a change of keys that our own keys are too old for.

        Raises `ConfigError` when there is one, and a `RemoteError` for one against the rules.
        """
        with self._writing:
            ring = follow(self._store, Keyring.of(self.author), limits=self._limits)
        matching(ring, self.keys, self._following)

    def root(self, size: int | None = None) -> bytes:
        """The RFC 6962 root over the first `size` entries (all by default)."""
        with self._writing:
            return self._root(self.size if size is None else size)

    def append(self, bodies: Sequence[Body]) -> tuple[Receipt, ...]:
        """Appends one entry a body, in order; every one is durable on return.

        Raises `LocalProtocolError` for a body that breaks its schema (nothing is appended)
        and `StorageError` when the disk refuses.
        """
        if not bodies:
            return ()
        with self._writing:
            return self._append(bodies)

    def _append(self, bodies: Sequence[Body]) -> tuple[Receipt, ...]:
        self._held.require()
        start = self.size
        now = max(self._clock(), self._last_ms)
        drawn = self._random(SALT_BYTES * len(bodies))
        group = encode_group(
            bodies,
            index=start,
            time_ms=now,
            salts=[drawn[at : at + SALT_BYTES] for at in range(0, len(drawn), SALT_BYTES)],
            charter=self._charter,
            limits=self._limits,
        )
        leaves = list(map(merkle.leaf_hash, group))
        self._store.append(list(zip(group, leaves, strict=True)))
        self._last_ms = now
        return tuple(Receipt(at, leaf, now) for at, leaf in enumerate(leaves, start))

    def sign_checkpoint(self) -> bytes:
        """The signed note over every durable entry, saved; the saved one when nothing is new."""
        with self._signing:
            return self._sign()

    def _sign(self) -> bytes:
        with self._writing:
            head = Checkpoint(origin=self.author.origin, size=self.size, root=self._root(self.size))
        saved = self._store.checkpoint
        if saved is not None and self._saved == head:
            return saved
        own = self._held.require()["log"]
        signers = [key for key in (self._outgoing, own) if key is not None]
        data = note.sign(heads.to_text(head), [(head.origin, key) for key in signers])
        self._store.save_checkpoint(data)
        self._saved, self._outgoing = head, None
        return data

    def change_key(self, change: Change) -> Receipt:
        """Puts another key in force, durably, and signs the checkpoint that says so.

        What stands before a good change is signed for by the key that goes. Raises
        `SignatureRefused` unless the recovery key in force orders it, `ManifestRefused` for a
        change against the rules (see `Keyring.after`), with nothing changed, and `StorageError`.
        """
        with self._signing:
            good = change.void_from is None
            if good:
                self._sign()
            with self._writing:
                body = change.body(self.keyring, self.size)
                ring = self.keyring.after(self.size, body)
                (receipt,) = self._append([body])
                if change.role == "log" and good:
                    self._outgoing = self.keys["log"]
                held = {**self._held.require().keys, change.role: change.new}
                if change.role == RECOVERY and RECOVERY not in self.keys:
                    del held[RECOVERY]
                self.keyring, self._held = ring, Held(keys=KeySet(held), ahead=())
            self._sign()
        return receipt

    def adopt(self, leaves: Sequence[Leaf], head: Checkpoint) -> None:
        """Takes back entries of this log that others kept, up to a head that we once signed.

        A body that nobody kept stays away; its hash does not. Raises `ManifestRefused` when
        the leaves do not lead from here to the head, `ConfigError` when a key changed among them
        that is not at hand, and `StorageError`; nothing is added then.
        """
        with self._signing, self._writing:
            if not self._leads(leaves, head):
                raise ManifestRefused(f"the leaves do not lead to the signed root of {head.size}")
            ring = self._after(leaves)
            keys = matching(ring, self.keys, self._following)
            own = keys.require()["log"]
            self._store.append([(one.entry or b"", one.leaf) for one in leaves])
            times = [entries.peek(one.entry).ts for one in leaves if one.entry is not None]
            self._last_ms = max([self._last_ms, *times])
            self.keyring, self._held = ring, keys
            self._store.save_checkpoint(heads.sign(head, own))
            self._saved = head

    def leads(self, leaves: Sequence[Leaf], head: Checkpoint) -> bool:
        """Whether our entries and then `leaves` have the root of a head."""
        with self._writing:
            return self._leads(leaves, head)

    def _leads(self, leaves: Sequence[Leaf], head: Checkpoint) -> bool:
        root = merkle.grown_root(self._store, self.size, (one.leaf for one in leaves))
        return (self.size + len(leaves), root) == (head.size, head.root)

    def open_ahead(self, data: bytes, leaves: Sequence[Leaf]) -> Checkpoint:
        """The head in a checkpoint of this log whose key may stand in `leaves`, which follow ours.

        Raises a `RemoteError`.
        """
        return self._after(leaves).open_checkpoint(data, limits=self._limits)

    def _after(self, leaves: Sequence[Leaf]) -> Keyring:
        ring = self.keyring
        for index, one in enumerate(leaves, self.size):
            ring = ring.follow(index, one.entry or b"", self._limits)
        return ring

    def open_checkpoint(self, data: bytes) -> Checkpoint:
        """The head in a checkpoint of this log, whoever kept it. Raises a `RemoteError`."""
        return self.keyring.open_checkpoint(data, limits=self._limits)

    def leaves(self, first: int, count: int) -> list[Leaf]:
        """At most `count` entries from `first` on as they are stored, with their hashes."""
        with self._writing:
            end = min(first + count, self.size)
            return [
                Leaf(self._store.entry(index) or None, self._store.node(0, index))
                for index in range(first, end)
            ]

    def prove(self, index: int, *, with_entry: bool = True) -> bytes:
        """The tlog-proof@v1 of entry `index`; the entry travels in it unless told otherwise.

        Signs a checkpoint first when none covers the entry.
        """
        with self._signing:
            data, head = self._store.checkpoint, self._saved
            if data is None or head is None or head.size <= index:
                data = self._sign()
            size = self.signed_size
        with self._writing:
            hashes = merkle.inclusion_proof(self._store, index, size)
            extra = self._store.entry(index) if with_entry else None
        return proof.encode(
            proof.Proof(index=index, hashes=tuple(hashes), checkpoint=data, extra=extra)
        )

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes of this log."""
        with self._writing:
            return merkle.consistency_proof(self._store, old, size)

    def entry(self, index: int) -> Entry:
        """Entry `index`."""
        with self._writing:
            data = self._store.entry(index)
        return entries.decode(data, limits=self._limits)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from `start` to the end as it is when each is asked for; not the pruned."""
        for index in itertools.count(start):
            with self._writing:
                data = self._store.entry(index) if index < self.size else None
            if data is None:
                return
            if data:
                yield entries.decode(data, limits=self._limits)

    def _root(self, size: int) -> bytes:
        return merkle.range_root(self._store, 0, size)


def _last_ms(store: Store, limits: Limits) -> int:
    """The time of the newest entry whose body is here; the genesis entry always is."""
    newest = (store.entry(index) for index in range(store.size - 1, -1, -1))
    return next(entries.peek(data, limits=limits).ts for data in newest if data)
