"""The node's own ledger on disk: one writer, durable before acknowledged.

Opens and locks the folder, recovers it, appends, signs and proves. `append` may run in one
thread while `sign_checkpoint` runs in another. A clean `close` leaves a checkpoint over
every entry. Small blobs that entries name (envelopes, proofs, evidence) lie beside them.

    journal = Journal.open(folder, keys, clock, random)
    receipts = journal.append([body, …])     # durable now
    journal.sign_checkpoint()                # whenever the caller likes
    journal.close()
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from konsil.node.store.blobs import BlobStore
from konsil.node.store.durable import storage_error, sync_folder
from konsil.node.store.filestore import FileStore
from konsil.node.store.indexing import drop, update
from konsil.node.store.lock import LOCK, take
from konsil.node.store.recovery import recover
from konsil.protocol import entries
from konsil.protocol.entries import NO_CHARTER, Body, Entry
from konsil.protocol.errors import (
    ConfigError,
    KonsilError,
    RemoteError,
    StorageError,
    UsageError,
    VerificationError,
)
from konsil.protocol.leaves import front_hash
from konsil.protocol.limits import DEFAULT_LIMITS, Limits
from konsil.protocol.node_bodies import LogRedact
from konsil.trust.hidden import may_be_pruned
from konsil.trust.layout import COSIGNED, MAX_NOTE_BYTES
from konsil.trust.ledger import Ledger
from konsil.trust.ledger import Receipt as Receipt
from konsil.trust.sources import read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from konsil.protocol.checkpoint import Checkpoint
    from konsil.protocol.genesis import Author
    from konsil.protocol.identity import KeySet, SigningKey
    from konsil.protocol.keyring import Change, Keyring
    from konsil.protocol.mirror import Leaf
    from konsil.protocol.p256 import P256SigningKey

BLOBS = "blobs"
INDEXED_AT_A_STOP = 40_000
"""Entries that one stop adds to the index, which is about a second; the rest waits for the next."""


class Journal:
    """A node's ledger, open for writing. Make one with `open`."""

    def __init__(
        self,
        folder: Path,
        lock: int,
        store: FileStore,
        ledger: Ledger,
        notices: tuple[str, ...],
        trace: Callable[[str], None] | None,
    ) -> None:
        self.folder = folder
        self.notices = notices
        self.blobs = BlobStore(folder / BLOBS)
        self._lock = lock
        self._store = store
        self._ledger = ledger
        self._trace = trace

    @classmethod
    def create(
        cls,
        folder: Path,
        name: str,
        consortium: str,
        keys: KeySet,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        *,
        p256_key: P256SigningKey | None = None,
    ) -> bytes:
        """Founds a ledger in a new folder; returns the bytes of its genesis entry.

        The genesis entry binds `p256_key` when there is one. Raises `ConfigError` when a
        ledger is there already and `StorageError`.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)
            occupied = any(item.name != LOCK for item in folder.iterdir())
        except OSError as error:
            raise storage_error(folder, error) from error
        if occupied:
            raise ConfigError(f"{folder}: a ledger is there already", hint="choose another home")
        lock = take(folder)
        try:
            store = FileStore.create(folder)
            Ledger.found(
                store,
                name=name,
                consortium=consortium,
                keys=keys,
                clock=clock,
                random=random,
                p256_key=p256_key,
            )
            store.close()
            return store.entry(0)
        finally:
            os.close(lock)

    @classmethod
    def open(
        cls,
        folder: Path,
        keys: KeySet,
        clock: Callable[[], int],
        random: Callable[[int], bytes],
        limits: Limits = DEFAULT_LIMITS,
        *,
        charter: bytes = NO_CHARTER,
        following: Mapping[str, SigningKey] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> Journal:
        """The ledger in `folder`, recovered; see `notices` for what that changed.

        `charter` is the digest that new entries carry, `following` are keys that a change was
        about to put in force, `trace` is told when an append begins and ends. Raises
        `VerificationError` (see `recover`), `ConfigError` when the keys are not this ledger's,
        and `StorageError`, also while another process has it open.
        """
        with ExitStack() as undo:
            lock = take(folder)
            undo.callback(os.close, lock)
            recovered = recover(folder, limits=limits)
            undo.callback(recovered.store.close)
            try:
                ledger = Ledger(
                    recovered.store,
                    keys=keys,
                    clock=clock,
                    random=random,
                    charter=charter,
                    limits=limits,
                    following=following,
                )
            except RemoteError as error:
                raise VerificationError(f"{folder}: {error.message}") from error
            undo.pop_all()
        return cls(folder, lock, recovered.store, ledger, recovered.notices, trace)

    @property
    def author(self) -> Author:
        """Who writes this ledger."""
        return self._ledger.author

    @property
    def keys(self) -> KeySet:
        """The secret half of the keys in force."""
        return self._ledger.keys

    @property
    def keyring(self) -> Keyring:
        """Every key that this log ever had."""
        return self._ledger.keyring

    @property
    def size(self) -> int:
        """The number of durable entries."""
        return self._ledger.size

    @property
    def root(self) -> bytes:
        """The RFC 6962 root over them."""
        return self._ledger.root()

    @property
    def signed_size(self) -> int:
        """The number of entries under the last checkpoint."""
        return self._ledger.signed_size

    @property
    def cosigned_size(self) -> int:
        """How many entries the cosigned checkpoint beside the ledger covers; 0 without one."""
        try:
            note = read_file(self.folder / COSIGNED, MAX_NOTE_BYTES)
            return self.open_checkpoint(note).size
        except (OSError, StorageError, RemoteError):
            return 0

    @property
    def checkpoint(self) -> bytes:
        """The last signed checkpoint note."""
        return self._store.checkpoint or self.sign_checkpoint()

    def append(self, bodies: Sequence[Body]) -> tuple[Receipt, ...]:
        """Appends entries in order with one sync; all are durable on return.

        Raises `StorageError` (code `disk_full` when there is no room); then none was added.
        """
        if self._trace:
            self._trace(f"append begin {self.size} +{len(bodies)}")
        receipts = self._ledger.append(bodies)
        if self._trace:
            self._trace(f"append end {self.size}")
        return receipts

    def time_ms(self, index: int) -> int:
        """When entry `index` was written; 0 for one that is not here, or has no body."""
        found = next(iter(self.leaves(index, 1)), None)
        return 0 if found is None or found.entry is None else entries.peek(found.entry).ts

    def redact(self, index: int, legal: str, authority: bytes) -> None:
        """Logs that the body of entry `index` goes, and then takes it away.

        `authority` commits to who ordered it. A stop in between leaves the body, and doing it
        again takes it away. Raises `UsageError` for an entry that may not be pruned, and
        `StorageError`.
        """
        found = next(iter(self.leaves(index, 1)), None)
        if found is None or found.entry is None:
            raise UsageError(f"entry {index}: there is no body here to redact")
        frame = entries.peek(found.entry)
        if not may_be_pruned(frame.t):
            raise UsageError(
                f"entry {index}: a {frame.t} entry may never be redacted",
                hint="a stranger needs it to verify this ledger",
            )
        body = LogRedact(
            index=index,
            leaf=found.leaf,
            front=front_hash(found.entry),
            kind=frame.t,
            written_ms=frame.ts,
            legal=legal,
            authority=authority,
        )
        if not any(isinstance(e.b, LogRedact) and e.b.index == index for e in self.entries()):
            self.append([body])
        drop(self.folder)
        self._store.prune(index)

    def sign_checkpoint(self) -> bytes:
        """Signs for every durable entry and moves full bundles out of the tail; the note."""
        return self._ledger.sign_checkpoint()

    def change_key(self, change: Change) -> Receipt:
        """Puts another key in force, durably. See `Ledger.change_key`."""
        return self._ledger.change_key(change)

    def require_keys(self) -> None:
        """Raises `ConfigError` while a key of ours is newer than this copy of the log."""
        self._ledger.require_keys()

    def check_keys(self) -> None:
        """Reads the whole log for changes of keys.

        Raises `ConfigError` when ours are older, and `VerificationError` for a change against
        the rules.
        """
        try:
            self._ledger.check_keys()
        except RemoteError as error:
            raise VerificationError(f"{self.folder}: {error.message}") from error

    def prove(self, index: int) -> bytes:
        """The tlog-proof@v1 of entry `index` with the entry in it; signs first when needed."""
        return self._ledger.prove(index)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """The consistency proof between two sizes of this log."""
        return self._ledger.consistency(old, size)

    def adopt(self, leaves: Sequence[Leaf], head: Checkpoint) -> None:
        """Takes back entries that others kept, up to a head that we signed. See `Ledger.adopt`."""
        self._ledger.adopt(leaves, head)

    def leads(self, leaves: Sequence[Leaf], head: Checkpoint) -> bool:
        """Whether our entries and then `leaves` have the root of a head."""
        return self._ledger.leads(leaves, head)

    def open_checkpoint(self, data: bytes) -> Checkpoint:
        """The head in a checkpoint of this log, whoever kept it. Raises a `RemoteError`."""
        return self._ledger.open_checkpoint(data)

    def open_ahead(self, data: bytes, leaves: Sequence[Leaf]) -> Checkpoint:
        """The head in a checkpoint whose key may stand in `leaves`. See `Ledger.open_ahead`."""
        return self._ledger.open_ahead(data, leaves)

    def root_at(self, size: int) -> bytes:
        """The root over the first `size` entries."""
        return self._ledger.root(size)

    def leaves(self, first: int, count: int) -> list[Leaf]:
        """At most `count` entries from `first` on as they are stored, with their hashes."""
        return self._ledger.leaves(first, count)

    def entry(self, index: int) -> Entry:
        """Entry `index`."""
        return self._ledger.entry(index)

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from `start` on."""
        return self._ledger.entries(start)

    def close(self, *, sign: bool = True, index: bool = False) -> None:
        """Signs for every entry, closes the files and gives the lock back; once is enough.

        Without `sign` nothing is signed: whoever does not know that this is the newest copy
        of the log must not. With `index` the index is brought up to the log, if that goes.
        """
        if self._lock < 0:
            return
        try:
            if sign:
                self._ledger.sign_checkpoint()
            if index:
                with suppress(KonsilError):
                    update(self.folder, most=INDEXED_AT_A_STOP)
        finally:
            self._store.close()
            os.close(self._lock)
            self._lock = -1
